import CoreGraphics
import Foundation
import XCTest

@testable import OptimizedModel

/// The model answers on this device as it did when it was delivered, on every choice of compute units.
final class GoldenTests: XCTestCase {
    func testTheSamplesArriveAsTheyAre() throws {
        let manager = OptimizedModelManager()
        for sample in try Golden.read().samples {
            let prepared = try manager.prepare(try sample.picture().image)
            XCTAssertEqual(Golden.Sample.digest(prepared.rgb), sample.pixels, sample.file)
        }
    }

    func testEveryUnitAnswersAsDelivered() async throws {
        let golden = try Golden.read()
        for units in ComputeUnits.allCases {
            let manager = OptimizedModelManager(computeUnits: units)
            for sample in golden.samples {
                let prediction = try await manager.predict(image: try sample.picture().image)
                try sample.check(prediction, golden.labels, "\(sample.file) on \(units.rawValue)")
            }
        }
    }

    func testABatchAnswersAsItsPicturesDo() async throws {
        let golden = try Golden.read()
        let manager = OptimizedModelManager()
        let together = try await manager.predict(images: try golden.samples.map { try $0.picture().image })
        XCTAssertEqual(together.count, golden.samples.count)
        for (sample, prediction) in zip(golden.samples, together) {
            try sample.check(prediction, golden.labels, "\(sample.file) in a batch")
        }
        let none = try await manager.predict(images: [])
        XCTAssertTrue(none.isEmpty)
    }

    func testFramesAnswerAsPicturesDo() async throws {
        let golden = try Golden.read()
        let manager = OptimizedModelManager()
        for sample in golden.samples {
            let buffer = try manager.prepare(try sample.picture().image).pixelBuffer()
            let prediction = try await manager.predict(pixelBuffer: buffer)
            try sample.check(prediction, golden.labels, "\(sample.file) as a frame")
        }
    }

    func testVisionAnswersAsDelivered() async throws {
        let golden = try Golden.read()
        let vision = try await VisionClassifier.load()
        for sample in golden.samples {
            let prediction = try vision.predict(image: try sample.picture().image)
            try sample.check(prediction, golden.labels, "\(sample.file) through Vision")
        }
    }

    func testFilesAnswerAsPicturesDo() async throws {
        let golden = try Golden.read()
        let manager = OptimizedModelManager()
        for sample in golden.samples {
            let file = try Golden.folder().appending(path: sample.file)
            let prediction = try await manager.predict(contentsOf: file)
            try sample.check(prediction, golden.labels, "\(sample.file) as a file")
        }
    }
}
