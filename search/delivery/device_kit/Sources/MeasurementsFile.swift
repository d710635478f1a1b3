import SwiftUI
import UniformTypeIdentifiers

/// The exported JSON, for "Save to Files" and for the share sheet.
struct MeasurementsFile: FileDocument, Transferable {
    static let readableContentTypes: [UTType] = [.json]
    static let name = "coreml-pareto-measurements.json"

    let data: Data

    init(data: Data) {
        self.data = data
    }

    init(configuration: ReadConfiguration) throws {
        guard let content = configuration.file.regularFileContents else {
            throw KitError.export(reason: "the file is empty")
        }
        data = content
    }

    func fileWrapper(configuration: WriteConfiguration) throws -> FileWrapper {
        FileWrapper(regularFileWithContents: data)
    }

    static var transferRepresentation: some TransferRepresentation {
        DataRepresentation(exportedContentType: .json) { (file: MeasurementsFile) in
            file.data
        }
        .suggestedFileName(name)
    }
}
