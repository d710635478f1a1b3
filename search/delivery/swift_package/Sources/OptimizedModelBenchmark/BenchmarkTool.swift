import Foundation
import OptimizedModel

/// Measures the model on this Mac by the protocol of `coreml-pareto device-kit`, under every choice of compute units.
///
/// `swift run -c release OptimizedModelBenchmark > measurements.json`, then
/// `coreml-pareto import-measurements measurements.json --run RUN`. The files beside this one are the device kit's own.
@main
struct BenchmarkTool {
    static func main() async {
        do {
            let file = try await measure()
            FileHandle.standardOutput.write(file)
        } catch {
            tell(error.localizedDescription)
            exit(1)
        }
    }

    private static func measure() async throws -> Data {
        let folder = KitFolder(url: try ModelFiles.inPackage().get().folder)
        let kit = try plan()
        let benchmark = Benchmark(kit: kit, facts: DeviceFacts.read())
        var records: [Record] = []
        for package in kit.packages {
            let compiled = try await benchmark.compile(package, in: folder)
            for units in kit.computeUnits {
                tell("\(package.name), \(units.rawValue)")
                let record = try await benchmark.measure(compiled, on: units, cold: false)
                record.details.warnings.forEach(tell)
                records.append(record)
            }
        }
        return try Measurements(kit: kit, records: records).data()
    }

    private static func plan() throws -> Kit {
        guard let folder = Bundle.module.url(forResource: "Kit", withExtension: nil) else {
            throw KitError.kitMissing
        }
        return try KitFolder(url: folder).kit()
    }

    private static func tell(_ line: String) {
        FileHandle.standardError.write(Data("\(line)\n".utf8))
    }
}
