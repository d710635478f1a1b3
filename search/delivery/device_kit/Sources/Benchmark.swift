import CoreML
import Foundation
import os

/// A package compiled for this device, at a place that does not change: Core ML keeps what it specialised by the path.
struct Compiled: Sendable {
    let package: KitPackage
    let url: URL
    let milliseconds: Double
}

/// Measures by the kit's protocol.
actor Benchmark {
    private let rules: Rules
    private let harness: String
    private let facts: DeviceFacts
    private let clock = ContinuousClock()
    private let signposter = OSSignposter(subsystem: "org.coreml-pareto.devicekit", category: "Benchmark")

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
        let memory = FootprintWatch()
        let firstLoad = try load(compiled, on: units).milliseconds
        memory.look()
        let loaded = try load(compiled, on: units)
        let predictor = try Predictor(
            loaded.model, named: name, forgiven: rules.forgivenFailures, signposter: signposter
        )
        let series = try await rounds(predictor, watching: memory)
        let coldTime = try await cold ? coldSeries(predictor) : nil
        let details = Details(
            memory: memory.seen(), batteryLevel: await Battery.level(), warnings: unusual(series, predictor)
        )
        guard let figures = Statistics(series.samples), let first = series.warmUps.first else {
            throw KitError.prediction(package: name, reason: "no predictions were asked for")
        }
        let condition = try checked()
        return Record(
            digest: compiled.package.digest, device: facts.model, os: facts.system, osBuild: facts.build,
            harness: harness, computeUnits: units,
            medianMs: figures.median, p10Ms: figures.quantile(0.1), p90Ms: figures.quantile(0.9),
            trimmedMeanMs: figures.trimmedMean, coldMs: coldTime,
            compileMs: compiled.milliseconds, load1Ms: firstLoad, load2Ms: loaded.milliseconds,
            rounds: rules.rounds, predictionsPerRound: rules.predictionsPerRound, backToBack: true,
            warmUp: first.calls, thermal: condition.thermal, lowPower: condition.lowPower,
            operations: await Placement.of(compiled.url, on: units), measuredAt: Date(),
            details: details
        )
    }

    /// What happened that a reader of the record has to know; the words are those of `coreml-pareto measure`.
    private func unusual(_ series: Series, _ predictor: Predictor) -> [String] {
        let unsteady = series.warmUps.filter { !$0.isSteady }.map {
            "the warm-up never settled: no \(rules.agreeingCalls) of \($0.calls) predictions in a row agree"
        }
        return unsteady + predictor.failures.map { "a prediction failed and was repeated: \($0)" }
    }

    private struct Series {
        var warmUps: [WarmUp]
        var samples: [Double] = []
    }

    private struct WarmUp {
        let calls: Int
        let isSteady: Bool
    }

    private struct Loaded {
        let model: MLModel
        let milliseconds: Double
    }

    private func load(_ compiled: Compiled, on units: ComputeUnits) throws(KitError) -> Loaded {
        let interval = signposter.beginInterval("load")
        defer { signposter.endInterval("load", interval) }
        let start = clock.now
        do {
            let model = try MLModel(contentsOf: compiled.url, configuration: units.configuration)
            return Loaded(model: model, milliseconds: milliseconds(since: start))
        } catch {
            throw KitError.loading(package: compiled.package.name, reason: error.localizedDescription)
        }
    }

    /// Predict until the last calls agree. A device that never settles is measured all the same: the record says so.
    private func warm(_ predictor: Predictor) throws(KitError) -> WarmUp {
        var calls: [Double] = []
        while calls.count < rules.mostWarmUp {
            calls.append(try predictor.predict())
            let last = calls.suffix(rules.agreeingCalls)
            if calls.count >= rules.leastWarmUp, Statistics.agree(last, within: rules.agreement) {
                return WarmUp(calls: calls.count, isSteady: true)
            }
        }
        return WarmUp(calls: calls.count, isSteady: false)
    }

    private func rounds(
        _ predictor: Predictor, watching memory: FootprintWatch
    ) async throws(KitError) -> Series {
        var series = Series(warmUps: [try warm(predictor)])
        series.samples.reserveCapacity(rules.rounds * rules.predictionsPerRound)
        memory.look()
        for _ in 0..<rules.rounds {
            if try await waitUntilCool() {
                series.warmUps.append(try warm(predictor))
            }
            let round = autoreleasepool { backToBack(predictor) }
            series.samples += try round.get()
            memory.look()
        }
        return series
    }

    private func backToBack(_ predictor: Predictor) -> Result<[Double], KitError> {
        var times: [Double] = []
        times.reserveCapacity(rules.predictionsPerRound)
        do throws(KitError) {
            for _ in 0..<rules.predictionsPerRound {
                times.append(try predictor.predict())
            }
            return .success(times)
        } catch {
            return .failure(error)
        }
    }

    /// The median of single calls after a pause: what a tap costs once the units have gone to sleep.
    private func coldSeries(_ predictor: Predictor) async throws(KitError) -> Double? {
        var times: [Double] = []
        for _ in 0..<rules.coldCalls {
            try await pause(seconds: rules.coldPauseSeconds)
            times.append(try predictor.predict())
        }
        return Statistics(times)?.median
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
        start.duration(to: clock.now).inMilliseconds
    }
}
