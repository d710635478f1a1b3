/// A label and how probable the model holds it, 0 to 1.
public struct LabelProbability: Sendable, Codable, Equatable {
    public let label: String
    public let probability: Double

    public init(label: String, probability: Double) {
        self.label = label
        self.probability = probability
    }
}

/// What the model says of one picture: every label, the most probable one first.
public struct Prediction: Sendable, Codable, Equatable {
    /// All labels; of equal ones the earlier label of the model comes first.
    public let ranked: [LabelProbability]
    /// The most probable label.
    public let label: String
    /// Its probability, 0 to 1.
    public let probability: Double

    /// - Parameter values: in the order of the model's labels; nil where there are none, or one is no number.
    public init?(_ values: [LabelProbability]) {
        guard values.allSatisfy({ $0.probability.isFinite }) else { return nil }
        let places = values.indices.sorted { one, other in
            let (first, second) = (values[one].probability, values[other].probability)
            return first == second ? one < other : first > second
        }
        ranked = places.map { values[$0] }
        guard let best = ranked.first else { return nil }
        (label, probability) = (best.label, best.probability)
    }

    /// The `count` most probable labels.
    public func top(_ count: Int) -> [LabelProbability] {
        Array(ranked.prefix(max(0, count)))
    }

    /// The label if the model is at least this sure, else nil: ask a person, or take another picture.
    ///
    /// What the thresholds cost and gain stands in the guide, chapter *Threshold*.
    public func label(atLeast threshold: Double) -> String? {
        probability >= threshold ? label : nil
    }
}
