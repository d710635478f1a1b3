import CoreGraphics
import CoreML
import CoreVideo
import Foundation
import ImageIO
import Vision

/// The same model through Vision, for apps that have a Vision pipeline: synchronous, for the queue that it is made on.
///
/// It has a model of its own and is not `Sendable`: keep it where the frames are. Where there is no Vision pipeline, take
/// ``OptimizedModelManager``, whose pixels do not depend on Vision's filter.
public final class VisionClassifier {
    private let model: VNCoreMLModel
    private let rule: InputRule

    /// Load the model for Vision; called from an actor, the classifier stays there.
    ///
    /// - Parameters:
    ///   - computeUnits: nil takes those that the guide gives reasons for.
    ///   - isolation: where the caller is; leave it out.
    public static func load(
        computeUnits: ComputeUnits? = nil,
        isolation: isolated (any Actor)? = #isolation
    ) async throws(OptimizedModelError) -> VisionClassifier {
        let files = try ModelFiles.inPackage().get()
        let facts = try files.facts().get()
        let place = try await files.compiled()
        let units = computeUnits ?? facts.computeUnits
        let loaded = try LoadedModel(compiled: place.url, units: units, labels: facts.labels)
        return try VisionClassifier(loaded, rule: facts.preprocessing)
    }

    private init(_ loaded: LoadedModel, rule: InputRule) throws(OptimizedModelError) {
        do {
            model = try VNCoreMLModel(for: loaded.model)
        } catch {
            throw OptimizedModelError.unexpectedModel(reason: "Vision does not take it (\(error.localizedDescription))")
        }
        self.rule = rule
    }

    /// Classify a picture.
    public func predict(
        image: CGImage, orientation: CGImagePropertyOrientation = .up
    ) throws(OptimizedModelError) -> Prediction {
        let handler = VNImageRequestHandler(cgImage: image, orientation: orientation, options: [:])
        return try predict(handler, rule.region(width: image.width, height: image.height, orientation))
    }

    /// Classify a frame.
    public func predict(
        pixelBuffer: CVPixelBuffer, orientation: CGImagePropertyOrientation = .up
    ) throws(OptimizedModelError) -> Prediction {
        let (width, height) = (CVPixelBufferGetWidth(pixelBuffer), CVPixelBufferGetHeight(pixelBuffer))
        let handler = VNImageRequestHandler(cvPixelBuffer: pixelBuffer, orientation: orientation, options: [:])
        return try predict(handler, rule.region(width: width, height: height, orientation))
    }

    private func predict(_ handler: VNImageRequestHandler, _ region: CGRect) throws(OptimizedModelError) -> Prediction {
        let request = VNCoreMLRequest(model: model)
        request.imageCropAndScaleOption = rule.visionOption
        request.regionOfInterest = region
        do {
            try handler.perform([request])
        } catch {
            throw OptimizedModelError.predicting(error)
        }
        let found = request.results as? [VNClassificationObservation] ?? []
        let values = found.map { LabelProbability(label: $0.identifier, probability: Double($0.confidence)) }
        guard let prediction = Prediction(values) else {
            throw OptimizedModelError.unexpectedModel(reason: "Vision found no probabilities in its answer")
        }
        return prediction
    }
}

extension InputRule {
    /// The option of Vision that cuts as the training did: the rule `shortest_side` keeps the aspect ratio and takes the
    /// centre, which is `.centerCrop`; `squash` takes the whole picture whatever its sides, which is `.scaleFill`.
    /// `.scaleFit`, Vision's third option, pads with bars that no training image had.
    var visionOption: VNImageCropAndScaleOption {
        switch resize {
        case .shortestSide: .centerCrop
        case .squash: .scaleFill
        }
    }

    /// The part of the upright picture that `.centerCrop` sees, in shares of its sides: all of it, or, where the rule
    /// keeps only a share of the shorter side, what is left when the margin is cut from all four edges.
    func region(width: Int, height: Int, _ orientation: CGImagePropertyOrientation) -> CGRect {
        guard resize == .shortestSide, cropFraction < 1, width > 0, height > 0 else {
            return CGRect(x: 0, y: 0, width: 1, height: 1)
        }
        let turned = [CGImagePropertyOrientation.left, .leftMirrored, .right, .rightMirrored].contains(orientation)
        let (wide, high) = turned ? (Double(height), Double(width)) : (Double(width), Double(height))
        let margin = (1 - cropFraction) / 2 * min(wide, high)
        return CGRect(x: margin / wide, y: margin / high, width: 1 - 2 * margin / wide, height: 1 - 2 * margin / high)
    }
}
