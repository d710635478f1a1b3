import SwiftUI

@main
struct DeviceKitApp: App {
    var body: some Scene {
        WindowGroup {
            ContentView()
        }
    }
}

struct ContentView: View {
    @State private var session = Session()
    @State private var isExporting = false
    @State private var file: MeasurementsFile?

    var body: some View {
        NavigationStack {
            List {
                controls
                results
                problems
            }
            .navigationTitle("Device kit")
        }
        .task { session.open() }
        .onChange(of: session.records.count) { file = session.file() }
        .fileExporter(
            isPresented: $isExporting, document: file, contentType: .json, defaultFilename: MeasurementsFile.name
        ) { _ in }
    }

    private var controls: some View {
        Section {
            Text(verbatim: session.kit?.run ?? "no kit")
            Toggle("Cold series too (slow)", isOn: $session.withColdSeries)
                .disabled(session.isRunning)
            if session.isRunning {
                ProgressView(value: Double(session.done), total: Double(max(1, session.total)))
                Text(verbatim: session.current)
                    .font(.footnote)
                Button("Stop", role: .cancel, action: session.stop)
            } else {
                Button("Measure \(session.total) times", action: session.start)
                    .disabled(session.kit == nil)
            }
        } footer: {
            Text("Leave the device alone, off the charger and out of the sun. Low power mode must be off.")
        }
    }

    private var results: some View {
        Section("Measured") {
            ForEach(Array(session.records.enumerated()), id: \.offset) { _, record in
                LabeledContent {
                    Text(record.medianMs, format: .number.precision(.significantDigits(3)))
                } label: {
                    Text(verbatim: "\(name(of: record)), \(record.computeUnits.rawValue)")
                }
            }
            if let file {
                ShareLink(item: file, preview: SharePreview(MeasurementsFile.name))
                Button("Save to Files") { isExporting = true }
            }
        }
    }

    private var problems: some View {
        Section("Problems") {
            ForEach(Array(session.problems.enumerated()), id: \.offset) { _, problem in
                Text(verbatim: problem)
            }
        }
    }

    private func name(of record: Record) -> String {
        session.kit?.packages.first { $0.digest == record.digest }?.name ?? record.digest
    }
}
