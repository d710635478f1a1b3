// swift-tools-version: 6.0

import PackageDescription

let package = Package(
    name: "OptimizedModel",
    platforms: [
        .iOS("16.0"),
        .macOS("13.0")
    ],
    products: [
        .library(name: "OptimizedModel", targets: ["OptimizedModel"])
    ],
    targets: [
        .target(
            name: "OptimizedModel",
            resources: [
                // Copied, not processed: Xcode compiles a processed .mlpackage, `swift build` takes its folder apart. So
                // it is compiled once, on the device, at the first load, and kept (ModelFiles.swift). An
                // optimized_model.mlmodelc beside it (`xcrun coremlcompiler compile`) is taken instead.
                .copy("Model")
            ]
        ),
        .executableTarget(
            name: "OptimizedModelBenchmark",
            dependencies: ["OptimizedModel"],
            resources: [
                .copy("Kit")
            ]
        ),
        .testTarget(
            name: "OptimizedModelTests",
            dependencies: ["OptimizedModel"],
            resources: [
                .copy("Golden")
            ]
        )
    ],
    swiftLanguageModes: [.v6]
)
