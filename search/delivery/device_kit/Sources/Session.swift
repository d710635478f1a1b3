import Foundation
import Observation
import UIKit

/// One pass over the kit: what is being measured, what was, and what went wrong.
@MainActor
@Observable
final class Session {
    private(set) var kit: Kit?
    private(set) var records: [Record] = []
    private(set) var problems: [String] = []
    private(set) var current = ""
    private(set) var done = 0
    private(set) var isRunning = false
    var withColdSeries = false
    private var task: Task<Void, Never>?

    var total: Int {
        guard let kit else { return 0 }
        return kit.packages.count * kit.computeUnits.count
    }

    func open() {
        do throws(KitError) {
            kit = try KitFolder.find().kit()
        } catch {
            tell(error)
        }
    }

    func start() {
        guard let kit, !isRunning else { return }
        (records, problems, done, isRunning) = ([], [], 0, true)
        UIApplication.shared.isIdleTimerDisabled = true
        task = Task {
            await run(kit)
            UIApplication.shared.isIdleTimerDisabled = false
            (isRunning, current) = (false, "")
        }
    }

    func stop() {
        task?.cancel()
    }

    /// What was measured so far, as a file; nil before the first record.
    func file() -> MeasurementsFile? {
        guard let kit, !records.isEmpty else { return nil }
        do throws(KitError) {
            return MeasurementsFile(data: try Measurements(kit: kit, records: records).data())
        } catch {
            tell(error)
            return nil
        }
    }

    private func run(_ kit: Kit) async {
        let benchmark = Benchmark(kit: kit, facts: DeviceFacts.read())
        for package in kit.packages {
            guard !Task.isCancelled else { return tell(.cancelled) }
            do throws(KitError) {
                current = package.name
                let compiled = try await benchmark.compile(package, in: try KitFolder.find())
                await measure(compiled, on: kit.computeUnits, by: benchmark)
            } catch {
                done += kit.computeUnits.count
                tell(error)
            }
        }
    }

    private func measure(_ compiled: Compiled, on choices: [ComputeUnits], by benchmark: Benchmark) async {
        for units in choices where !Task.isCancelled {
            current = "\(compiled.package.name), \(units.rawValue)"
            do throws(KitError) {
                let record = try await benchmark.measure(compiled, on: units, cold: withColdSeries)
                records.append(record)
                problems += record.details.warnings.map { "\(current): \($0)" }
            } catch {
                tell(error)
            }
            done += 1
        }
    }

    private func tell(_ error: KitError) {
        problems.append(error.localizedDescription)
    }
}
