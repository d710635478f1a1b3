import CoreML
import Foundation

/// What the kit measures and by which rules: Kit/kit.json, written by `coreml-pareto device-kit`.
struct Kit: Codable, Sendable {
    let run: String
    let harness: String
    let rules: Rules
    let computeUnits: [ComputeUnits]
    let packages: [KitPackage]

    enum CodingKeys: String, CodingKey {
        case run = "run"
        case harness = "harness"
        case rules = "protocol"
        case computeUnits = "compute_units"
        case packages = "packages"
    }
}

/// The protocol of measuring.
struct Rules: Codable, Sendable {
    let rounds: Int
    let predictionsPerRound: Int
    let leastWarmUp: Int
    let mostWarmUp: Int
    let agreeingCalls: Int
    let agreement: Double
    let forgivenFailures: Int
    let coldCalls: Int
    let coldPauseSeconds: Double
    let coolingSeconds: Double

    enum CodingKeys: String, CodingKey {
        case rounds = "rounds"
        case predictionsPerRound = "predictions_per_round"
        case leastWarmUp = "least_warm_up"
        case mostWarmUp = "most_warm_up"
        case agreeingCalls = "agreeing_calls"
        case agreement = "agreement"
        case forgivenFailures = "forgiven_failures"
        case coldCalls = "cold_calls"
        case coldPauseSeconds = "cold_pause_seconds"
        case coolingSeconds = "cooling_seconds"
    }
}

/// One package of the kit. Its name is shown, never used as a file name.
struct KitPackage: Codable, Sendable, Identifiable {
    let file: String
    let digest: String
    let name: String
    let role: String
    let costs: [Cost]

    var id: String { digest }

    enum CodingKeys: String, CodingKey {
        case file = "file"
        case digest = "digest"
        case name = "name"
        case role = "role"
        case costs = "costs"
    }
}

/// One operation of a package. The app passes it on: whoever imports the file compares with an estimate.
struct Cost: Codable, Sendable {
    let name: String
    let kind: String
    let group: String
    let precision: String
    let macs: Int
    let weightBytes: Int
    let weightElements: Int
    let readBytes: Int
    let writtenBytes: Int
    let note: String
    let kernel: Int
    let alignedBytes: Int
    let offEngine: String
    let tableChannels: Int

    enum CodingKeys: String, CodingKey {
        case name = "name"
        case kind = "kind"
        case group = "group"
        case precision = "precision"
        case macs = "macs"
        case weightBytes = "weight_bytes"
        case weightElements = "weight_elements"
        case readBytes = "read_bytes"
        case writtenBytes = "written_bytes"
        case note = "note"
        case kernel = "kernel"
        case alignedBytes = "aligned_bytes"
        case offEngine = "off_engine"
        case tableChannels = "table_channels"
    }
}

/// Compute units by the names of Core ML Tools.
enum ComputeUnits: String, Codable, Sendable, CaseIterable {
    case all = "ALL"
    case neuralEngine = "CPU_AND_NE"
    case gpu = "CPU_AND_GPU"
    case cpuOnly = "CPU_ONLY"

    /// A fresh configuration that allows these units.
    var configuration: MLModelConfiguration {
        let configuration = MLModelConfiguration()
        switch self {
        case .all: configuration.computeUnits = .all
        case .neuralEngine: configuration.computeUnits = .cpuAndNeuralEngine
        case .gpu: configuration.computeUnits = .cpuAndGPU
        case .cpuOnly: configuration.computeUnits = .cpuOnly
        }
        return configuration
    }
}

/// The folder of the kit inside the app.
struct KitFolder: Sendable {
    let url: URL

    /// Find it in the app's own bundle, or in the one that the package's resources were put into.
    static func find() throws(KitError) -> KitFolder {
        let nested = Bundle.main.urls(forResourcesWithExtension: "bundle", subdirectory: nil) ?? []
        let bundles = [Bundle.main] + nested.compactMap { Bundle(url: $0) }
        for bundle in bundles {
            if let url = bundle.url(forResource: "Kit", withExtension: nil) {
                return KitFolder(url: url)
            }
        }
        throw KitError.kitMissing
    }

    func kit() throws(KitError) -> Kit {
        do {
            let data = try Data(contentsOf: url.appending(path: "kit.json"))
            return try JSONDecoder().decode(Kit.self, from: data)
        } catch {
            throw KitError.kitUnreadable(reason: error.localizedDescription)
        }
    }

    func package(_ package: KitPackage) throws(KitError) -> URL {
        let place = url.appending(path: package.file)
        guard FileManager.default.fileExists(atPath: place.path(percentEncoded: false)) else {
            throw KitError.packageMissing(file: package.file)
        }
        return place
    }
}
