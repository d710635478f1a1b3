import CoreGraphics
import CoreVideo
import Foundation
import ImageIO

/// Classifies images with the model that this package carries.
///
/// The model is loaded once, off the main thread, at the first prediction or by ``load()``, and kept: make one manager
/// and share it.
///
/// ```swift
/// let manager = OptimizedModelManager()
/// let result = try await manager.predict(image: cgImage)
/// print(result.label, result.probability)
/// ```
///
/// Pictures are prepared where the caller is, and only their pixels are sent to the model. So a `CVPixelBuffer` of a
/// camera never leaves its queue, and nothing here asks for `@unchecked Sendable`.
public final class OptimizedModelManager: Sendable {
    private let facts: Result<ModelFacts, OptimizedModelError>
    private let runner: ModelRunner

    /// - Parameter computeUnits: which units of the chip may be used; nil takes those that the guide gives reasons for.
    ///
    /// Nothing is loaded here, and nothing can fail: what is wrong with the model is told by the first call.
    public init(computeUnits: ComputeUnits? = nil) {
        let files = ModelFiles.inPackage()
        facts = files.flatMap { $0.facts() }
        runner = ModelRunner(files: files, units: computeUnits)
    }

    /// Load the model now, so that the first prediction does not wait for it.
    ///
    /// - Throws: ``OptimizedModelError``; a later call tries again.
    public func load() async throws(OptimizedModelError) {
        try await runner.load()
    }

    /// The labels of the model, in its own order.
    public func labels() async throws(OptimizedModelError) -> [String] {
        try await runner.labels()
    }

    /// Classify a picture.
    ///
    /// - Parameters:
    ///   - image: of any size and colour space.
    ///   - orientation: how the picture has to be turned to be upright; a `CGImage` does not know.
    ///   - isolation: where the caller is; leave it out.
    /// - Returns: every label with its probability, the most probable one first.
    /// - Throws: ``OptimizedModelError``.
    public func predict(
        image: CGImage,
        orientation: CGImagePropertyOrientation = .up,
        isolation: isolated (any Actor)? = #isolation
    ) async throws(OptimizedModelError) -> Prediction {
        let prepared = try prepare(image, orientation: orientation)
        return try await predict(prepared)
    }

    /// Classify a frame, of a camera for example, in any pixel format that VideoToolbox reads.
    public func predict(
        pixelBuffer: CVPixelBuffer,
        orientation: CGImagePropertyOrientation = .up,
        isolation: isolated (any Actor)? = #isolation
    ) async throws(OptimizedModelError) -> Prediction {
        let prepared = try prepare(pixelBuffer, orientation: orientation)
        return try await predict(prepared)
    }

    /// Classify a picture in a file; its EXIF orientation counts.
    public func predict(contentsOf file: URL) async throws(OptimizedModelError) -> Prediction {
        let picture = try Picture(contentsOf: file)
        let prepared = try prepare(picture.image, orientation: picture.orientation)
        return try await predict(prepared)
    }

    /// Classify several pictures in one call of Core ML, which keeps the units of the chip busy.
    ///
    /// - Returns: one prediction for each picture, in their order; none for none.
    public func predict(
        images: [CGImage],
        isolation: isolated (any Actor)? = #isolation
    ) async throws(OptimizedModelError) -> [Prediction] {
        var prepared: [PreparedImage] = []
        prepared.reserveCapacity(images.count)
        for image in images {
            prepared.append(try prepare(image))
        }
        return try await predict(batch: prepared)
    }

    /// Classify pixels that were prepared before.
    public func predict(_ image: PreparedImage) async throws(OptimizedModelError) -> Prediction {
        try await runner.predict(image)
    }

    /// Classify many prepared pictures in one call of Core ML.
    public func predict(batch: [PreparedImage]) async throws(OptimizedModelError) -> [Prediction] {
        try await runner.predict(batch)
    }

    /// Cut and resize a picture as the training did; runs where it is called.
    public func prepare(
        _ image: CGImage, orientation: CGImagePropertyOrientation = .up
    ) throws(OptimizedModelError) -> PreparedImage {
        try PreparedImage(image, orientation: orientation, rule: try facts.get().preprocessing)
    }

    /// Cut and resize a frame as the training did; runs where it is called, on the camera's queue for example.
    public func prepare(
        _ pixelBuffer: CVPixelBuffer, orientation: CGImagePropertyOrientation = .up
    ) throws(OptimizedModelError) -> PreparedImage {
        let picture = try Picture(pixelBuffer, orientation: orientation)
        return try prepare(picture.image, orientation: picture.orientation)
    }

    /// How often the model was loaded: once, whatever was asked. The tests hold this.
    func timesLoaded() async -> Int {
        await runner.timesLoaded
    }
}
