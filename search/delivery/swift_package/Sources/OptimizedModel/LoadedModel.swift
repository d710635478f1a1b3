import CoreML
import CoreVideo
import Foundation

/// A loaded model with the names of its features. Not `Sendable`: it stays with whoever made it.
struct LoadedModel {
    let model: MLModel
    let labels: [String]
    private let input: String
    private let probabilities: String

    /// - Parameter labels: as they were delivered. Apple documents `classLabels` for classifiers, not that every system
    ///   fills it for ML programs; so it is not relied on, and each answer is held against these.
    init(compiled: URL, units: ComputeUnits, labels: [String]) throws(OptimizedModelError) {
        do {
            model = try MLModel(contentsOf: compiled, configuration: units.configuration)
        } catch {
            throw OptimizedModelError.loading(reason: error.localizedDescription)
        }
        let description = model.modelDescription
        let images = description.inputDescriptionsByName.filter { $0.value.type == .image }.map(\.key)
        guard let input = images.first, images.count == 1 else {
            throw OptimizedModelError.unexpectedModel(reason: "it takes \(images.count) images, not one")
        }
        guard let probabilities = description.predictedProbabilitiesName else {
            throw OptimizedModelError.unexpectedModel(reason: "it gives no probabilities")
        }
        (self.input, self.probabilities, self.labels) = (input, probabilities, labels)
    }

    func predict(_ image: PreparedImage) throws(OptimizedModelError) -> Prediction {
        let features = try provider(image)
        do {
            return try prediction(from: try model.prediction(from: features))
        } catch {
            throw OptimizedModelError.predicting(error)
        }
    }

    func predict(_ images: [PreparedImage]) throws(OptimizedModelError) -> [Prediction] {
        var inputs: [any MLFeatureProvider] = []
        inputs.reserveCapacity(images.count)
        for image in images {
            inputs.append(try provider(image))
        }
        do {
            let answers = try model.predictions(
                from: MLArrayBatchProvider(array: inputs), options: MLPredictionOptions()
            )
            return try (0..<answers.count).map { try prediction(from: answers.features(at: $0)) }
        } catch {
            throw OptimizedModelError.predicting(error)
        }
    }

    private func provider(_ image: PreparedImage) throws(OptimizedModelError) -> any MLFeatureProvider {
        let buffer = try image.pixelBuffer()
        do {
            return try MLDictionaryFeatureProvider(dictionary: [input: MLFeatureValue(pixelBuffer: buffer)])
        } catch {
            throw OptimizedModelError.predicting(error)
        }
    }

    private func prediction(from answer: any MLFeatureProvider) throws(OptimizedModelError) -> Prediction {
        let found = answer.featureValue(for: probabilities)?.dictionaryValue ?? [:]
        let values = labels.map { LabelProbability(label: $0, probability: found[$0]?.doubleValue ?? .nan) }
        guard found.count == labels.count, let prediction = Prediction(values) else {
            throw OptimizedModelError.unexpectedModel(reason: "it did not answer with a probability for each label")
        }
        return prediction
    }
}
