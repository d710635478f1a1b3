import CoreML
import Foundation

/// Where the model lies, and where it is compiled to.
public struct ModelFiles: Sendable {
    static let name = "optimized_model"

    /// The folder of this package's bundle that holds `optimized_model.mlpackage`.
    public let folder: URL

    /// A compiled model, and whether this package keeps it (then it can be made anew).
    struct Place: Sendable {
        let url: URL
        let isKept: Bool
    }

    /// The files that this package carries.
    public static func inPackage() -> Result<ModelFiles, OptimizedModelError> {
        guard let folder = Bundle.module.url(forResource: "Model", withExtension: nil) else {
            return .failure(OptimizedModelError.resourceMissing(name: "Model"))
        }
        return .success(ModelFiles(folder: folder))
    }

    /// What is known of the model beside it: `optimized_model.json`.
    func facts() -> Result<ModelFacts, OptimizedModelError> {
        do {
            let data = try Data(contentsOf: folder.appending(path: "\(Self.name).json"))
            return .success(try JSONDecoder().decode(ModelFacts.self, from: data))
        } catch {
            return .failure(OptimizedModelError.factsUnreadable(reason: error.localizedDescription))
        }
    }

    /// The compiled model: one that was compiled when the app was built, one that was kept, or one made now.
    func compiled() async throws(OptimizedModelError) -> Place {
        if let built = builtIn() { return Place(url: built, isKept: false) }
        let place = try kept()
        if exists(place) { return Place(url: place, isKept: true) }
        return try await compiledAnew()
    }

    /// Compile the package on this device and keep the result in Application Support.
    func compiledAnew() async throws(OptimizedModelError) -> Place {
        let source = folder.appending(path: "\(Self.name).mlpackage")
        guard exists(source) else { throw OptimizedModelError.resourceMissing(name: source.lastPathComponent) }
        let place = try kept()
        do {
            let temporary = try await MLModel.compileModel(at: source)
            try FileManager.default.createDirectory(
                at: place.deletingLastPathComponent(), withIntermediateDirectories: true
            )
            try? FileManager.default.removeItem(at: place)
            do {
                try FileManager.default.moveItem(at: temporary, to: place)
            } catch _ where exists(place) {
                // Another manager compiled it meanwhile; what it has put there is as good.
                try? FileManager.default.removeItem(at: temporary)
            }
        } catch {
            throw OptimizedModelError.compilation(reason: error.localizedDescription)
        }
        return Place(url: place, isKept: true)
    }

    /// Beside the package, or where Xcode puts what it compiled when the resource rule is changed to `.process`.
    private func builtIn() -> URL? {
        let beside = folder.appending(path: "\(Self.name).mlmodelc")
        return exists(beside) ? beside : Bundle.module.url(forResource: Self.name, withExtension: "mlmodelc")
    }

    /// By the digest of the model: another model is never taken for this one.
    private func kept() throws(OptimizedModelError) -> URL {
        let digest = try facts().get().digest
        return URL.applicationSupportDirectory.appending(path: "OptimizedModel/\(digest).mlmodelc")
    }

    private func exists(_ url: URL) -> Bool {
        FileManager.default.fileExists(atPath: url.path(percentEncoded: false))
    }
}
