import CoreML
import Foundation

/// Places for what a model answers, made once, so that a prediction need neither allocate nor copy them.
enum Outputs {
    /// Options with a buffer for every output that can have one: arrays, but no labels and no dictionaries.
    static func options(for model: MLModel, trying input: any MLFeatureProvider) -> MLPredictionOptions {
        let options = MLPredictionOptions()
        options.outputBackings = buffers(for: model)
        // A buffer that Core ML cannot take makes the prediction fail. Then Core ML makes its own.
        if !options.outputBackings.isEmpty, (try? model.prediction(from: input, options: options)) == nil {
            options.outputBackings = [:]
        }
        return options
    }

    private static func buffers(for model: MLModel) -> [String: Any] {
        var found: [String: Any] = [:]
        for (name, description) in model.modelDescription.outputDescriptionsByName {
            guard let constraint = description.multiArrayConstraint else { continue }
            guard !constraint.shape.isEmpty, constraint.shape.allSatisfy({ $0.intValue > 0 }) else { continue }
            if let buffer = try? MLMultiArray(shape: constraint.shape, dataType: constraint.dataType) {
                found[name] = buffer
            }
        }
        return found
    }
}
