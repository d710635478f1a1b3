#if canImport(SwiftUI)
import SwiftUI

extension OptimizedModelManager {
    /// Classify a SwiftUI image at its natural size.
    ///
    /// SwiftUI draws on the main actor only; what follows runs off it.
    @MainActor
    public func predict(image: Image) async throws(OptimizedModelError) -> Prediction {
        let renderer = ImageRenderer(content: image)
        renderer.scale = 1
        guard let drawn = renderer.cgImage else {
            throw OptimizedModelError.unreadableImage(reason: "SwiftUI draws nothing of it")
        }
        let prepared = try prepare(drawn)
        return try await predict(prepared)
    }
}
#endif
