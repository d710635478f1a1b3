#if canImport(SwiftUI)
import PhotosUI
import SwiftUI

/// A sample: choose a photograph, see what the model says. Take it apart for your own screens.
@MainActor
public struct ClassifierView: View {
    private let manager: OptimizedModelManager
    private let threshold: Double
    @State private var item: PhotosPickerItem?
    @State private var prediction: Prediction?
    @State private var problem: String?

    /// - Parameters:
    ///   - manager: the app's one manager.
    ///   - threshold: below this probability the view says that it is not sure; see the guide, chapter *Threshold*.
    public init(manager: OptimizedModelManager, threshold: Double = 0) {
        self.manager = manager
        self.threshold = threshold
    }

    public var body: some View {
        List {
            PhotosPicker("Choose a photograph", selection: $item, matching: .images)
            if let problem {
                Text(verbatim: problem)
            }
            if let prediction {
                Section {
                    Text(verbatim: prediction.label(atLeast: threshold) ?? "Not sure").font(.title2)
                    ForEach(prediction.top(5), id: \.label) { row in
                        LabeledContent {
                            Text(row.probability, format: .percent.precision(.fractionLength(1)))
                        } label: {
                            Text(verbatim: row.label)
                        }
                    }
                }
            }
        }
        .task { await attempt { try await manager.load() } }
        .task(id: item) { await attempt { try await open() } }
    }

    private func open() async throws {
        guard let item else { return }
        prediction = nil
        problem = nil
        guard let data = try await item.loadTransferable(type: Data.self) else { return }
        let file = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
        defer { try? FileManager.default.removeItem(at: file) }
        try data.write(to: file)
        let found = try await manager.predict(contentsOf: file)
        if !Task.isCancelled { prediction = found }
    }

    /// A photograph that was left for another one says nothing any more.
    private func attempt(_ work: @MainActor () async throws -> Void) async {
        do {
            try await work()
        } catch {
            if !Task.isCancelled { problem = error.localizedDescription }
        }
    }
}
#endif
