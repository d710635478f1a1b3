import CryptoKit
import Foundation
import XCTest

@testable import OptimizedModel

/// What the delivered model answered to sample pictures when it was delivered: Golden/golden.json.
struct Golden: Decodable, Sendable {
    let labels: [String]
    let samples: [Sample]

    /// A picture at input size, and for each label, in the order of `labels`, the range that its probability lies in.
    struct Sample: Decodable, Sendable {
        let file: String
        let pixels: String
        let label: String
        let decided: Bool
        let probability: [Double]
        let low: [Double]
        let high: [Double]
    }

    static func read() throws -> Golden {
        try JSONDecoder().decode(Golden.self, from: try Data(contentsOf: try folder().appending(path: "golden.json")))
    }

    /// Where the samples lie: in the package's own tests, or in those of an app, where Xcode may leave their folder out.
    static func folder() throws -> URL {
        #if SWIFT_PACKAGE
        let bundle = Bundle.module
        #else
        let bundle = Bundle(for: GoldenTests.self)
        #endif
        let inside = bundle.url(forResource: "golden", withExtension: "json", subdirectory: "Golden")
        let file = try XCTUnwrap(inside ?? bundle.url(forResource: "golden", withExtension: "json"))
        return file.deletingLastPathComponent()
    }
}

extension Golden.Sample {
    func picture() throws -> Picture {
        try Picture(contentsOf: try Golden.folder().appending(path: file))
    }

    /// Hold a prediction against what was written down; the label too, unless two labels are too close to tell.
    func check(_ prediction: Prediction, _ labels: [String], _ message: String) throws {
        let found = Dictionary(prediction.ranked.map { ($0.label, $0.probability) }) { first, _ in first }
        XCTAssertEqual(Set(found.keys), Set(labels), message)
        for (place, name) in labels.enumerated() {
            let value = try XCTUnwrap(found[name], message)
            XCTAssertGreaterThanOrEqual(value, low[place], "\(message): \(name)")
            XCTAssertLessThanOrEqual(value, high[place], "\(message): \(name)")
        }
        if decided { XCTAssertEqual(prediction.label, label, message) }
    }

    /// SHA-256 of the pixels as the model sees them.
    static func digest(_ bytes: [UInt8]) -> String {
        SHA256.hash(data: bytes).map { String(format: "%02x", $0) }.joined()
    }
}
