import Foundation

/// What can go wrong, and what can be done about it.
public enum OptimizedModelError: Error, Equatable, Sendable {
    case resourceMissing(name: String)
    case factsUnreadable(reason: String)
    case compilation(reason: String)
    case loading(reason: String)
    case unexpectedModel(reason: String)
    case unreadableImage(reason: String)
    case bufferRefused(status: Int32)
    case prediction(reason: String)

    /// An error of Core ML as one of these; ours stay what they are.
    static func predicting(_ error: any Error) -> OptimizedModelError {
        error as? OptimizedModelError ?? OptimizedModelError.prediction(reason: error.localizedDescription)
    }
}

extension OptimizedModelError: LocalizedError {
    public var errorDescription: String? {
        switch self {
        case .resourceMissing(let name):
            "\(name) is not in the app's bundle. Add the package OptimizedModel to the app's target again."
        case .factsUnreadable(let reason):
            "optimized_model.json cannot be read (\(reason)). Take the file as it was delivered."
        case .compilation(let reason):
            "The model does not compile on this device: \(reason)"
        case .loading(let reason):
            "The model does not load on this device: \(reason)"
        case .unexpectedModel(let reason):
            "The model is not the one that was delivered: \(reason)."
        case .unreadableImage(let reason):
            "The picture cannot be read: \(reason)."
        case .bufferRefused(let status):
            "The pixels cannot be handed to Core ML (Core Video, status \(status))."
        case .prediction(let reason):
            "The model does not predict: \(reason)"
        }
    }
}
