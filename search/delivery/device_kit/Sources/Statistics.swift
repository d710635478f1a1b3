import Foundation

/// The figures of a series of times.
struct Statistics: Sendable {
    private let sorted: [Double]

    /// Nil for an empty series.
    init?(_ samples: [Double]) {
        guard !samples.isEmpty else { return nil }
        sorted = samples.sorted()
    }

    var median: Double { quantile(0.5) }

    /// The mean without the lowest and the highest tenth.
    var trimmedMean: Double {
        let left = sorted.count / 10
        let kept = sorted[left..<(sorted.count - left)]
        return kept.reduce(0, +) / Double(kept.count)
    }

    /// Between two samples the line between them counts.
    func quantile(_ share: Double) -> Double {
        let place = share * Double(sorted.count - 1)
        let below = Int(place.rounded(.down))
        let above = min(below + 1, sorted.count - 1)
        return sorted[below] + (place - Double(below)) * (sorted[above] - sorted[below])
    }

    /// Whether the last calls agree with each other within a share of the smallest.
    static func agree(_ calls: ArraySlice<Double>, within share: Double) -> Bool {
        guard let least = calls.min(), let most = calls.max(), least > 0 else { return false }
        return most - least <= share * least
    }
}

extension Duration {
    var inMilliseconds: Double {
        let (seconds, attoseconds) = components
        return 1e3 * Double(seconds) + 1e-15 * Double(attoseconds)
    }
}
