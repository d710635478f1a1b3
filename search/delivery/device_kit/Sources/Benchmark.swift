import CoreML
import Foundation

/// A package compiled for this device, at a place that does not change: Core ML keeps what it specialised by the path.
struct Compiled: Sendable {
    let package: KitPackage
    let url: URL
    let milliseconds: Double
}

/// Measures by the kit's protocol. Times are those of the prediction call alone; the input is made before.
actor Benchmark {
    private let rules: Rules
    private let harness: String
    private let facts: DeviceFacts
    private let clock = ContinuousClock()

    init(kit: Kit, facts: DeviceFacts) {
        rules = kit.rules
        harness = kit.harness
        self.facts = facts
    }

    func compile(_ package: KitPackage, in folder: KitFolder) async throws(KitError) -> Compiled {
        let source = try folder.package(package)
        let start = clock.now
        do {
            let temporary = try await MLModel.compileModel(at: source)
            let passed = milliseconds(since: start)
            let fixed = try place(for: package)
            if FileManager.default.fileExists(atPath: fixed.path(percentEncoded: false)) {
                try FileManager.default.removeItem(at: fixed)
            }
            try FileManager.default.moveItem(at: temporary, to: fixed)
            return Compiled(package: package, url: fixed, milliseconds: passed)
        } catch {
            throw KitError.compilation(package: package.name, reason: error.localizedDescription)
        }
    }

    /// First and second load, warm-up, rounds of back-to-back predictions, and the cold series where it is asked for.
    func measure(_ compiled: Compiled, on units: ComputeUnits, cold: Bool) async throws(KitError) -> Record {
        let name = compiled.package.name
        _ = try await waitUntilCool()
        let firstLoad = try load(compiled, on: units).milliseconds
        let loaded = try load(compiled, on: units)
        let input = try Inputs.make(for: loaded.model, named: name)
        let warmUp = try warm(loaded.model, input, name)
        let samples = try await rounds(loaded.model, input, name)
        let coldTime = try await cold ? coldSeries(loaded.model, input, name) : nil
        guard let figures = Statistics(samples) else {
            throw KitError.prediction(package: name, reason: "no predictions were asked for")
        }
        let condition = try checked()
        return Record(
            digest: compiled.package.digest, device: facts.model, os: facts.system, osBuild: facts.build,
            harness: harness, computeUnits: units,
            medianMs: figures.median, p10Ms: figures.quantile(0.1), p90Ms: figures.quantile(0.9),
            trimmedMeanMs: figures.trimmedMean, coldMs: coldTime,
            compileMs: compiled.milliseconds, load1Ms: firstLoad, load2Ms: loaded.milliseconds,
            rounds: rules.rounds, predictionsPerRound: rules.predictionsPerRound, backToBack: true, warmUp: warmUp,
            thermal: condition.thermal, lowPower: condition.lowPower,
            operations: await Placement.of(compiled.url, on: units), measuredAt: Date()
        )
    }

    private struct Loaded {
        let model: MLModel
        let milliseconds: Double
    }

    private func load(_ compiled: Compiled, on units: ComputeUnits) throws(KitError) -> Loaded {
        let start = clock.now
        do {
            let model = try MLModel(contentsOf: compiled.url, configuration: units.configuration)
            return Loaded(model: model, milliseconds: milliseconds(since: start))
        } catch {
            throw KitError.loading(package: compiled.package.name, reason: error.localizedDescription)
        }
    }

    /// Predict until the last calls agree; returns how many calls it took.
    private func warm(_ model: MLModel, _ input: any MLFeatureProvider, _ name: String) throws(KitError) -> Int {
        var calls: [Double] = []
        while calls.count < rules.mostWarmUp {
            calls.append(try predict(model, input, name))
            let last = calls.suffix(rules.agreeingCalls)
            if calls.count >= rules.leastWarmUp, Statistics.agree(last, within: rules.agreement) {
                return calls.count
            }
        }
        throw KitError.unsteady(package: name, calls: calls.count)
    }

    private func rounds(
        _ model: MLModel, _ input: any MLFeatureProvider, _ name: String
    ) async throws(KitError) -> [Double] {
        var samples: [Double] = []
        samples.reserveCapacity(rules.rounds * rules.predictionsPerRound)
        for _ in 0..<rules.rounds {
            if try await waitUntilCool() {
                _ = try warm(model, input, name)
            }
            let round = autoreleasepool { backToBack(model, input, name) }
            samples += try round.get()
        }
        return samples
    }

    private func backToBack(
        _ model: MLModel, _ input: any MLFeatureProvider, _ name: String
    ) -> Result<[Double], KitError> {
        var times: [Double] = []
        times.reserveCapacity(rules.predictionsPerRound)
        do throws(KitError) {
            for _ in 0..<rules.predictionsPerRound {
                times.append(try predict(model, input, name))
            }
            return .success(times)
        } catch {
            return .failure(error)
        }
    }

    /// The median of single calls after a pause: what a tap costs once the units have gone to sleep.
    private func coldSeries(
        _ model: MLModel, _ input: any MLFeatureProvider, _ name: String
    ) async throws(KitError) -> Double? {
        var times: [Double] = []
        for _ in 0..<rules.coldCalls {
            try await pause(seconds: rules.coldPauseSeconds)
            times.append(try predict(model, input, name))
        }
        return Statistics(times)?.median
    }

    private func predict(
        _ model: MLModel, _ input: any MLFeatureProvider, _ name: String
    ) throws(KitError) -> Double {
        let start = clock.now
        do {
            _ = try model.prediction(from: input)
        } catch {
            throw KitError.prediction(package: name, reason: error.localizedDescription)
        }
        return milliseconds(since: start)
    }

    /// Whether there was anything to wait for; the units are cold again then.
    private func waitUntilCool() async throws(KitError) -> Bool {
        let start = clock.now
        var waited = false
        while !Condition.now().isCool {
            guard milliseconds(since: start) < 1000 * rules.coolingSeconds else {
                throw KitError.tooHot(state: Condition.now().thermal)
            }
            waited = true
            try await pause(seconds: 5)
        }
        _ = try checked()
        return waited
    }

    private func checked() throws(KitError) -> Condition {
        let condition = Condition.now()
        guard !Task.isCancelled else { throw KitError.cancelled }
        guard !condition.lowPower else { throw KitError.lowPower }
        guard condition.isCool else { throw KitError.tooHot(state: condition.thermal) }
        return condition
    }

    private func pause(seconds: Double) async throws(KitError) {
        do {
            try await Task.sleep(for: .seconds(seconds))
        } catch {
            throw KitError.cancelled
        }
    }

    private func place(for package: KitPackage) throws -> URL {
        let folder = URL.applicationSupportDirectory.appending(path: "Compiled")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        return folder.appending(path: "\(package.digest).mlmodelc")
    }

    private func milliseconds(since start: ContinuousClock.Instant) -> Double {
        let (seconds, attoseconds) = start.duration(to: clock.now).components
        return 1e3 * Double(seconds) + 1e-15 * Double(attoseconds)
    }
}
