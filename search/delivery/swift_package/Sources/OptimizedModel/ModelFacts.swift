import CoreGraphics
import Foundation

/// What `optimized_model.json` says of the model.
struct ModelFacts: Codable, Sendable, Equatable {
    let digest: String
    let computeUnits: ComputeUnits
    /// In the order of the model, which carries them, too.
    let labels: [String]
    let preprocessing: InputRule

    enum CodingKeys: String, CodingKey {
        case digest = "digest"
        case computeUnits = "compute_units"
        case labels = "labels"
        case preprocessing = "preprocessing"
    }
}

/// How a picture becomes the square of pixels that the model sees: the rule that the training used.
public struct InputRule: Codable, Sendable, Equatable {
    /// What is done to the sides of a picture.
    public enum Resize: String, Codable, Sendable {
        /// The aspect ratio stays, the centre is cut out.
        case shortestSide = "shortest_side"
        /// The whole picture, whatever its aspect ratio, becomes a square.
        case squash = "squash"
    }

    /// Side of the square, in pixels.
    public let resolution: Int
    public let resize: Resize
    /// Share of the shorter side that the crop keeps.
    public let cropFraction: Double

    enum CodingKeys: String, CodingKey {
        case resolution = "resolution"
        case resize = "resize"
        case cropFraction = "crop_fraction"
    }

    /// The part of an upright picture that is resized, in its pixels; centred, so it does not matter where y begins.
    func box(width: Int, height: Int) -> CGRect {
        let (wide, high) = (Double(width), Double(height))
        guard resize == .shortestSide else { return CGRect(x: 0, y: 0, width: wide, height: high) }
        let side = cropFraction * min(wide, high)
        return CGRect(x: (wide - side) / 2, y: (high - side) / 2, width: side, height: side)
    }
}
