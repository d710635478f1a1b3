import Foundation
import XCTest

@testable import OptimizedModel

/// Fifty predictions, preparation apart, as XCTest times them: to see a change, not to compare devices.
///
/// For figures that can be compared take the target `OptimizedModelBenchmark`, or the device kit on a phone.
final class PerformanceTests: XCTestCase {
    private var compiled: URL?

    /// `measure` is synchronous, so the model is compiled before and loaded without its manager.
    override func setUp() async throws {
        compiled = try await ModelFiles.inPackage().get().compiled().url
    }

    func testFiftyPredictions() throws {
        let sample = try XCTUnwrap(try Golden.read().samples.first)
        let prepared = try OptimizedModelManager().prepare(try sample.picture().image)
        let facts = try ModelFiles.inPackage().get().facts().get()
        let place = try XCTUnwrap(compiled)
        let model = try LoadedModel(compiled: place, units: facts.computeUnits, labels: facts.labels)
        measure(metrics: [XCTClockMetric(), XCTMemoryMetric()]) {
            for _ in 0..<50 {
                XCTAssertNoThrow(try model.predict(prepared))
            }
        }
    }
}
