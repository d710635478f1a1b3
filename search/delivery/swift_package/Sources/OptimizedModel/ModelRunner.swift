import CoreML
import Foundation

/// Owns the one `MLModel`. It never leaves this actor: nothing promises on every system that it may be shared.
///
/// Loading is done by the synchronous initialiser, on this actor's thread: callers wait without blocking theirs, and the
/// model is born where it stays. Predictions come one after the other.
actor ModelRunner {
    private let files: Result<ModelFiles, OptimizedModelError>
    private let units: ComputeUnits?
    private var loaded: LoadedModel?
    private var loading: Task<OptimizedModelError?, Never>?
    private(set) var timesLoaded = 0

    init(files: Result<ModelFiles, OptimizedModelError>, units: ComputeUnits?) {
        self.files = files
        self.units = units
    }

    func load() async throws(OptimizedModelError) {
        _ = try await ready()
    }

    func labels() async throws(OptimizedModelError) -> [String] {
        try await ready().labels
    }

    func predict(_ image: PreparedImage) async throws(OptimizedModelError) -> Prediction {
        let model = try await ready()
        return try model.predict(image)
    }

    func predict(_ images: [PreparedImage]) async throws(OptimizedModelError) -> [Prediction] {
        guard !images.isEmpty else { return [] }
        let model = try await ready()
        return try model.predict(images)
    }

    /// The loaded model. Whoever comes while it is being loaded waits for that one load.
    private func ready() async throws(OptimizedModelError) -> LoadedModel {
        if let loaded { return loaded }
        let task = loading ?? Task { await open() }
        loading = task
        let failure = await task.value
        if let failure { throw failure }
        guard let loaded else { throw OptimizedModelError.loading(reason: "it was let go while it was loaded") }
        return loaded
    }

    /// Load the model and keep it; returns what went wrong.
    private func open() async -> OptimizedModelError? {
        defer { loading = nil }
        do throws(OptimizedModelError) {
            let found = try files.get()
            let facts = try found.facts().get()
            loaded = try await opened(found, facts)
            timesLoaded += 1
            return nil
        } catch {
            return error
        }
    }

    /// A compiled model that was kept may be damaged, or of an older system: then it is compiled once more.
    private func opened(_ files: ModelFiles, _ facts: ModelFacts) async throws(OptimizedModelError) -> LoadedModel {
        let units = self.units ?? facts.computeUnits
        let place = try await files.compiled()
        do throws(OptimizedModelError) {
            return try LoadedModel(compiled: place.url, units: units, labels: facts.labels)
        } catch {
            if !place.isKept { throw error }
        }
        let anew = try await files.compiledAnew()
        return try LoadedModel(compiled: anew.url, units: units, labels: facts.labels)
    }
}
