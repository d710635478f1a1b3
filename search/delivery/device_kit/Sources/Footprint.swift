import Darwin

/// The memory of this process in bytes, by the ledger that the kernel ends apps by (`task_info`, TASK_VM_INFO).
struct Footprint: Sendable {
    let now: Int
    /// The largest since the process began.
    let peak: Int

    // Asked once, because every call hands out one more right. The variable `mach_task_self_` is the same port, but Swift
    // 6 refuses it with the systems before macOS 15.4, which do not say that nobody writes to it.
    private static let task = task_self_trap()

    /// Nil where the kernel does not tell.
    static func read() -> Footprint? {
        let words = MemoryLayout<task_vm_info_data_t>.size / MemoryLayout<integer_t>.size
        var info = task_vm_info_data_t()
        var count = mach_msg_type_number_t(words)
        let status = withUnsafeMutablePointer(to: &info) { pointer in
            pointer.withMemoryRebound(to: integer_t.self, capacity: words) { numbers in
                task_info(task, task_flavor_t(TASK_VM_INFO), numbers, &count)
            }
        }
        guard status == KERN_SUCCESS else { return nil }
        return Footprint(now: Int(clamping: info.phys_footprint), peak: Int(clamping: info.ledger_phys_footprint_peak))
    }
}

/// How far the footprint rises above where it stood at the beginning.
final class FootprintWatch {
    private let start = Footprint.read()
    private var highest = 0

    /// What was seen, in bytes.
    struct Seen: Sendable {
        let before: Int
        let after: Int
        let rise: Int
    }

    func look() {
        highest = max(highest, Footprint.read()?.now ?? 0)
    }

    /// The kernel's peak counts where it rose; where another package had taken it higher, the best known is what `look`
    /// saw. Nil where nothing could be read.
    func seen() -> Seen? {
        guard let start, let end = Footprint.read() else { return nil }
        let top = end.peak > start.peak ? end.peak : max(highest, start.now, end.now)
        return Seen(before: start.now, after: end.now, rise: max(0, top - start.now))
    }
}
