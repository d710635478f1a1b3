import CoreML
import Foundation
import os

/// One model that is asked with one input, again and again. Times are those of the prediction call alone.
///
/// Each call is an interval of os_signpost: Instruments shows beside it what ran on the Neural Engine.
final class Predictor {
    /// The words of predictions that failed and were repeated.
    private(set) var failures: [String] = []
    private let model: MLModel
    private let input: any MLFeatureProvider
    private let options: MLPredictionOptions
    private let name: String
    private let forgiven: Int
    private let signposter: OSSignposter
    private let clock = ContinuousClock()

    /// - Parameter forgiven: predictions that may fail, all told; each is repeated.
    init(_ model: MLModel, named name: String, forgiven: Int, signposter: OSSignposter) throws(KitError) {
        let input = try Inputs.make(for: model, named: name)
        self.model = model
        self.input = input
        self.name = name
        self.forgiven = forgiven
        self.signposter = signposter
        options = Outputs.options(for: model, trying: input)
    }

    /// The time of one prediction, in milliseconds.
    func predict() throws(KitError) -> Double {
        while true {
            do {
                return try once()
            } catch {
                failures.append(error.localizedDescription)
                guard failures.count <= forgiven else {
                    throw KitError.prediction(package: name, reason: error.localizedDescription)
                }
            }
        }
    }

    private func once() throws -> Double {
        let interval = signposter.beginInterval("prediction")
        defer { signposter.endInterval("prediction", interval) }
        let start = clock.now
        _ = try model.prediction(from: input, options: options)
        return start.duration(to: clock.now).inMilliseconds
    }
}
