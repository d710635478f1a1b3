import CoreML
import Foundation

/// How many operations Core ML means to run on each unit.
struct Placement: Codable, Sendable {
    var neuralEngine = 0
    var gpu = 0
    var cpu = 0

    enum CodingKeys: String, CodingKey {
        case neuralEngine = "neural_engine"
        case gpu = "gpu"
        case cpu = "cpu"
    }

    /// Ask Core ML's plan; nil on systems that have none, or where it does not answer.
    static func of(_ compiled: URL, on units: ComputeUnits) async -> Placement? {
        guard #available(iOS 17.4, macOS 14.4, *) else { return nil }
        guard let plan = try? await MLComputePlan.load(contentsOf: compiled, configuration: units.configuration) else {
            return nil
        }
        guard case .program(let program) = plan.modelStructure, let main = program.functions["main"] else {
            return nil
        }
        var found = Placement()
        for operation in main.block.operations {
            guard let usage = plan.deviceUsage(for: operation) else { continue }
            switch usage.preferred {
            case .neuralEngine: found.neuralEngine += 1
            case .gpu: found.gpu += 1
            case .cpu: found.cpu += 1
            @unknown default: continue
            }
        }
        return found
    }
}
