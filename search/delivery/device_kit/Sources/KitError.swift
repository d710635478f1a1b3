import Foundation

/// What can go wrong, and what a person can do about it.
enum KitError: Error, Equatable, Sendable {
    case kitMissing
    case kitUnreadable(reason: String)
    case packageMissing(file: String)
    case compilation(package: String, reason: String)
    case loading(package: String, reason: String)
    case unsupportedInput(package: String, feature: String)
    case buffer(width: Int, height: Int)
    case prediction(package: String, reason: String)
    case tooHot(state: String)
    case lowPower
    case cancelled
    case export(reason: String)
}

extension KitError: LocalizedError {
    var errorDescription: String? {
        switch self {
        case .kitMissing:
            "The app holds no kit. Write it again with `coreml-pareto device-kit`."
        case .kitUnreadable(let reason):
            "The kit cannot be read (\(reason)). Write it again with `coreml-pareto device-kit`."
        case .packageMissing(let file):
            "The package \(file) is not in the app. Write the kit again."
        case .compilation(let package, let reason):
            "\(package) does not compile here: \(reason)"
        case .loading(let package, let reason):
            "\(package) does not load here: \(reason)"
        case .unsupportedInput(let package, let feature):
            "\(package) takes \(feature), which is neither an image nor an array."
        case .buffer(let width, let height):
            "No picture of \(width) × \(height) pixels can be made here."
        case .prediction(let package, let reason):
            "\(package) does not predict here: \(reason)"
        case .tooHot(let state):
            "The device stays too warm (\(state)). Let it cool, take it off the charger, and measure again."
        case .lowPower:
            "Low power mode slows the device down. Switch it off and measure again."
        case .cancelled:
            "Stopped. What was measured before can be exported."
        case .export(let reason):
            "The measurements cannot be written: \(reason)"
        }
    }
}
