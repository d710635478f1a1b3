import CoreGraphics
import Foundation
import XCTest

@testable import OptimizedModel

/// Loading once, labels, errors, and the rule that cuts pictures.
final class ManagerTests: XCTestCase {
    func testTheModelIsLoadedOnceWhoeverAsks() async throws {
        let golden = try Golden.read()
        let sample = try XCTUnwrap(golden.samples.first)
        let manager = OptimizedModelManager()
        let prepared = try manager.prepare(try sample.picture().image)
        try await withThrowingTaskGroup(of: Prediction.self) { group in
            for _ in 0..<8 {
                group.addTask { try await manager.predict(prepared) }
            }
            for try await prediction in group {
                try sample.check(prediction, golden.labels, "eight at once")
            }
        }
        let times = await manager.timesLoaded()
        XCTAssertEqual(times, 1)
    }

    func testTheLabelsAreThoseDelivered() async throws {
        let labels = try await OptimizedModelManager().labels()
        XCTAssertEqual(labels, try Golden.read().labels)
    }

    func testTwoThatCompileAtOnceBothGetAModel() async throws {
        let files = try ModelFiles.inPackage().get()
        let places = try await withThrowingTaskGroup(of: URL.self) { group -> Set<URL> in
            for _ in 0..<2 {
                group.addTask { try await files.compiledAnew().url }
            }
            var found: Set<URL> = []
            for try await place in group {
                found.insert(place)
            }
            return found
        }
        XCTAssertEqual(places.count, 1)
    }

    func testAMissingModelIsToldAndTriedAgain() async throws {
        let gone = ModelRunner(files: .failure(.resourceMissing(name: "Model")), units: nil)
        for _ in 0..<2 {
            do throws(OptimizedModelError) {
                try await gone.load()
                XCTFail("nothing is there to be loaded")
            } catch {
                XCTAssertEqual(error, OptimizedModelError.resourceMissing(name: "Model"))
                XCTAssertFalse(error.localizedDescription.isEmpty)
            }
        }
    }

    func testAFileThatIsNoPictureIsRefused() async throws {
        let file = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
        try Data("no picture".utf8).write(to: file)
        defer { try? FileManager.default.removeItem(at: file) }
        do throws(OptimizedModelError) {
            _ = try await OptimizedModelManager().predict(contentsOf: file)
            XCTFail("a text is no picture")
        } catch {
            guard case .unreadableImage = error else { return XCTFail("\(error)") }
        }
    }

    func testPredictionsAreRanked() throws {
        let values = [("b", 0.2), ("a", 0.2), ("c", 0.6)].map { LabelProbability(label: $0.0, probability: $0.1) }
        let prediction = try XCTUnwrap(Prediction(values))
        XCTAssertEqual(prediction.ranked.map(\.label), ["c", "b", "a"])
        XCTAssertEqual(prediction.top(2).map(\.label), ["c", "b"])
        XCTAssertEqual(prediction.top(-1), [])
        XCTAssertEqual(prediction.label(atLeast: 0.6), "c")
        XCTAssertNil(prediction.label(atLeast: 0.61))
        XCTAssertNil(Prediction([]))
        XCTAssertNil(Prediction([LabelProbability(label: "a", probability: .nan)]))
    }

    func testTheRuleCutsTheCentre() throws {
        let whole = #"{"resolution": 32, "resize": "squash", "crop_fraction": 1}"#
        let cut = #"{"resolution": 32, "resize": "shortest_side", "crop_fraction": 0.5}"#
        let (squash, centre) = (try rule(whole), try rule(cut))
        XCTAssertEqual(squash.box(width: 40, height: 20), CGRect(x: 0, y: 0, width: 40, height: 20))
        XCTAssertEqual(centre.box(width: 40, height: 20), CGRect(x: 15, y: 5, width: 10, height: 10))
        XCTAssertEqual(squash.visionOption, .scaleFill)
        XCTAssertEqual(centre.visionOption, .centerCrop)
        let region = CGRect(x: 0.125, y: 0.25, width: 0.75, height: 0.5)
        XCTAssertEqual(centre.region(width: 40, height: 20, .up), region)
        XCTAssertEqual(centre.region(width: 20, height: 40, .right), region)
    }

    private func rule(_ text: String) throws -> InputRule {
        try JSONDecoder().decode(InputRule.self, from: Data(text.utf8))
    }
}
