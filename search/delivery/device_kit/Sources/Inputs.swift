import CoreML
import CoreVideo
import Foundation

/// One input for a model, made once and used for every prediction.
enum Inputs {
    static func make(for model: MLModel, named package: String) throws(KitError) -> any MLFeatureProvider {
        var features: [String: MLFeatureValue] = [:]
        for (name, description) in model.modelDescription.inputDescriptionsByName where !description.isOptional {
            features[name] = try value(for: description, of: package)
        }
        do {
            return try MLDictionaryFeatureProvider(dictionary: features)
        } catch {
            throw KitError.prediction(package: package, reason: error.localizedDescription)
        }
    }

    private static func value(
        for description: MLFeatureDescription, of package: String
    ) throws(KitError) -> MLFeatureValue {
        if let constraint = description.imageConstraint {
            return MLFeatureValue(pixelBuffer: try picture(constraint))
        }
        if let constraint = description.multiArrayConstraint {
            return MLFeatureValue(multiArray: try array(constraint, of: package))
        }
        throw KitError.unsupportedInput(package: package, feature: description.name)
    }

    /// Noise in a buffer that the units of the chip share.
    private static func picture(_ constraint: MLImageConstraint) throws(KitError) -> CVPixelBuffer {
        let shared: [String: Any] = [kCVPixelBufferIOSurfacePropertiesKey as String: [String: Any]()]
        var created: CVPixelBuffer?
        let status = CVPixelBufferCreate(
            kCFAllocatorDefault, constraint.pixelsWide, constraint.pixelsHigh, constraint.pixelFormatType,
            shared as CFDictionary, &created
        )
        guard status == kCVReturnSuccess, let buffer = created else {
            throw KitError.buffer(width: constraint.pixelsWide, height: constraint.pixelsHigh)
        }
        fill(buffer)
        return buffer
    }

    private static func fill(_ buffer: CVPixelBuffer) {
        CVPixelBufferLockBaseAddress(buffer, [])
        defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
        guard let start = CVPixelBufferGetBaseAddress(buffer) else { return }
        let count = CVPixelBufferGetBytesPerRow(buffer) * CVPixelBufferGetHeight(buffer)
        let bytes = UnsafeMutableRawBufferPointer(start: start, count: count)
        var state: UInt32 = 1
        for index in bytes.indices {
            state = state &* 1_664_525 &+ 1_013_904_223
            bytes[index] = UInt8(truncatingIfNeeded: state >> 24)
        }
    }

    private static func array(
        _ constraint: MLMultiArrayConstraint, of package: String
    ) throws(KitError) -> MLMultiArray {
        do {
            let array = try MLMultiArray(shape: constraint.shape, dataType: constraint.dataType)
            for index in 0..<array.count {
                array[index] = NSNumber(value: index % 2)
            }
            return array
        } catch {
            throw KitError.prediction(package: package, reason: error.localizedDescription)
        }
    }
}
