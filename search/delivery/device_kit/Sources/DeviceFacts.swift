import Darwin
import Foundation

/// What identifies the device and its system.
struct DeviceFacts: Sendable {
    let model: String
    let system: String
    let build: String

    static func read() -> DeviceFacts {
        let process = ProcessInfo.processInfo
        let version = process.operatingSystemVersion
        // On a Mac hw.machine says arm64, and to an iPad app there an iPad's name.
        #if os(macOS)
        let key = "hw.model"
        #else
        let key = process.isiOSAppOnMac ? "hw.model" : "hw.machine"
        #endif
        return DeviceFacts(
            model: systemText(key) ?? "unknown",
            system: "\(version.majorVersion).\(version.minorVersion).\(version.patchVersion)",
            build: systemText("kern.osversion") ?? "unknown"
        )
    }

    private static func systemText(_ name: String) -> String? {
        var size = 0
        guard sysctlbyname(name, nil, &size, nil, 0) == 0, size > 0 else { return nil }
        var bytes = [UInt8](repeating: 0, count: size)
        guard sysctlbyname(name, &bytes, &size, nil, 0) == 0 else { return nil }
        return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
}

/// How warm the device is, and whether it is allowed to work at full speed.
struct Condition: Sendable {
    let thermal: String
    let isCool: Bool
    let lowPower: Bool

    static func now() -> Condition {
        let process = ProcessInfo.processInfo
        let lowPower = process.isLowPowerModeEnabled
        switch process.thermalState {
        case .nominal: return Condition(thermal: "nominal", isCool: true, lowPower: lowPower)
        case .fair: return Condition(thermal: "fair", isCool: true, lowPower: lowPower)
        case .serious: return Condition(thermal: "serious", isCool: false, lowPower: lowPower)
        case .critical: return Condition(thermal: "critical", isCool: false, lowPower: lowPower)
        @unknown default: return Condition(thermal: "unknown", isCool: false, lowPower: lowPower)
        }
    }
}
