#if canImport(UIKit)
import UIKit
#endif

/// How full the battery is: a device that runs low slows down, and one that charges grows warm.
enum Battery {
    /// From 0 to 1; nil where the device does not tell, as a Mac and a simulator do not.
    @MainActor
    static func level() -> Double? {
        #if canImport(UIKit)
        let device = UIDevice.current
        device.isBatteryMonitoringEnabled = true
        let level = device.batteryLevel
        return level < 0 ? nil : Double(level)
        #else
        return nil
        #endif
    }
}
