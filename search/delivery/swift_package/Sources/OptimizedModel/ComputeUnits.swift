import CoreML

/// Which units of the chip the model may run on, by the names of Core ML Tools.
public enum ComputeUnits: String, Codable, Sendable, CaseIterable {
    case all = "ALL"
    case neuralEngine = "CPU_AND_NE"
    case gpu = "CPU_AND_GPU"
    case cpuOnly = "CPU_ONLY"

    /// A fresh configuration that allows these units.
    public var configuration: MLModelConfiguration {
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
