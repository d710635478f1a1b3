// swift-tools-version: 6.0

// An app package: Xcode and Swift Playgrounds open the folder itself, there is no project file.

import AppleProductTypes
import PackageDescription

let package = Package(
    name: "DeviceKit",
    platforms: [
        .iOS("17.0")
    ],
    products: [
        .iOSApplication(
            name: "DeviceKit",
            targets: ["DeviceKit"],
            bundleIdentifier: "org.coreml-pareto.devicekit",
            displayVersion: "1.0",
            bundleVersion: "1",
            appIcon: .placeholder(icon: .leaf),
            accentColor: .presetColor(.orange),
            supportedDeviceFamilies: [
                .pad,
                .phone
            ],
            supportedInterfaceOrientations: [
                .portrait,
                .landscapeRight,
                .landscapeLeft,
                .portraitUpsideDown(.when(deviceFamilies: [.pad]))
            ]
        )
    ],
    targets: [
        .executableTarget(
            name: "DeviceKit",
            path: "Sources",
            resources: [
                // Copied, not processed: names of packages become no Swift classes, and the app compiles them itself.
                .copy("Kit")
            ]
        )
    ]
)
