import Foundation

/// The exported file: what `coreml-pareto import-measurements` reads. Times are in milliseconds.
struct Measurements: Codable, Sendable {
    let format: String
    let version: Int
    let unit: String
    let packages: [MeasuredPackage]
    let records: [Record]

    enum CodingKeys: String, CodingKey {
        case format = "format"
        case version = "version"
        case unit = "unit"
        case packages = "packages"
        case records = "records"
    }

    init(kit: Kit, records: [Record]) {
        let measured = Set(records.map(\.digest))
        format = "coreml-pareto-measurements"
        version = 1
        unit = "ms"
        packages = kit.packages.filter { measured.contains($0.digest) }.map(MeasuredPackage.init)
        self.records = records
    }

    func data() throws(KitError) -> Data {
        let encoder = JSONEncoder()
        encoder.dateEncodingStrategy = .iso8601
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        do {
            return try encoder.encode(self)
        } catch {
            throw KitError.export(reason: error.localizedDescription)
        }
    }
}

/// A package as the file names it.
struct MeasuredPackage: Codable, Sendable {
    let digest: String
    let name: String
    let role: String
    let costs: [Cost]

    enum CodingKeys: String, CodingKey {
        case digest = "digest"
        case name = "name"
        case role = "role"
        case costs = "costs"
    }

    init(_ package: KitPackage) {
        digest = package.digest
        name = package.name
        role = package.role
        costs = package.costs
    }
}

/// One package on this device under one choice of compute units.
struct Record: Codable, Sendable {
    let digest: String
    let device: String
    let os: String
    let osBuild: String
    let harness: String
    let computeUnits: ComputeUnits
    let medianMs: Double
    let p10Ms: Double
    let p90Ms: Double
    let trimmedMeanMs: Double
    let coldMs: Double?
    let compileMs: Double
    let load1Ms: Double
    let load2Ms: Double
    let rounds: Int
    let predictionsPerRound: Int
    let backToBack: Bool
    let warmUp: Int
    let thermal: String
    let lowPower: Bool
    let operations: Placement?
    let measuredAt: Date
    let details: Details

    enum CodingKeys: String, CodingKey {
        case digest = "digest"
        case device = "device"
        case os = "os"
        case osBuild = "os_build"
        case harness = "harness"
        case computeUnits = "compute_units"
        case medianMs = "median_ms"
        case p10Ms = "p10_ms"
        case p90Ms = "p90_ms"
        case trimmedMeanMs = "trimmed_mean_ms"
        case coldMs = "cold_ms"
        case compileMs = "compile_ms"
        case load1Ms = "load1_ms"
        case load2Ms = "load2_ms"
        case rounds = "rounds"
        case predictionsPerRound = "predictions_per_round"
        case backToBack = "back_to_back"
        case warmUp = "warm_up"
        case thermal = "thermal"
        case lowPower = "low_power"
        case operations = "operations"
        case measuredAt = "measured_at"
        case details = "details"
    }
}

/// What is kept for people beside the figures: bytes of this process, the battery from 0 to 1, and what was unusual.
struct Details: Codable, Sendable {
    let footprintBytes: Int?
    let footprintBeforeBytes: Int?
    let footprintAfterBytes: Int?
    let batteryLevel: Double?
    let warnings: [String]

    enum CodingKeys: String, CodingKey {
        case footprintBytes = "footprint_bytes"
        case footprintBeforeBytes = "footprint_before_bytes"
        case footprintAfterBytes = "footprint_after_bytes"
        case batteryLevel = "battery_level"
        case warnings = "warnings"
    }

    init(memory: FootprintWatch.Seen?, batteryLevel: Double?, warnings: [String]) {
        footprintBytes = memory?.rise
        footprintBeforeBytes = memory?.before
        footprintAfterBytes = memory?.after
        self.batteryLevel = batteryLevel
        self.warnings = warnings.map { String($0.prefix(Self.longest)) }
    }

    /// What a file of measurements takes as one warning.
    private static let longest = 2000
}
