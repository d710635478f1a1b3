import CoreGraphics
import CoreImage
import CoreVideo
import Foundation
import ImageIO

/// The square of pixels that the model sees, cut and resized by the rule of the training.
///
/// The bytes are its own, so it may be sent anywhere.
public struct PreparedImage: Sendable, Equatable {
    /// Width and height in pixels.
    public let side: Int
    /// Blue, green, red and 255 for each pixel, row by row without padding: a reader that takes the fourth byte for an
    /// alpha sees an opaque picture.
    let bytes: [UInt8]

    /// Draw the rule's part of a picture as a square, transparency on white. Profiles of RGB pictures are ignored: the
    /// training read the numbers as they stand in the file, too.
    ///
    /// A picture that has the size already is taken pixel by pixel. All others are resampled by Core Graphics, whose
    /// filter is not Pillow's of the training; what that does to the answers, the checklist of the guide measures.
    public init(
        _ image: CGImage, orientation: CGImagePropertyOrientation = .up, rule: InputRule
    ) throws(OptimizedModelError) {
        let upright = try Self.unprofiled(Self.upright(image, orientation))
        let box = rule.box(width: upright.width, height: upright.height)
        let context = try Self.canvas(rule.resolution)
        let whole = CGRect(x: 0, y: 0, width: rule.resolution, height: rule.resolution)
        context.setFillColor(gray: 1, alpha: 1)
        context.fill(whole)
        context.interpolationQuality = box == whole ? .none : .high
        context.scaleBy(x: whole.width / box.width, y: whole.height / box.height)
        context.translateBy(x: -box.minX, y: -box.minY)
        context.draw(upright, in: CGRect(x: 0, y: 0, width: upright.width, height: upright.height))
        guard let drawn = context.data else {
            throw OptimizedModelError.unreadableImage(reason: "Core Graphics keeps no pixels of it")
        }
        var pixels = withExtendedLifetime(context) {  // the memory is the context's
            Array(UnsafeRawBufferPointer(start: drawn, count: 4 * rule.resolution * rule.resolution))
        }
        for unused in stride(from: 3, to: pixels.count, by: 4) {
            pixels[unused] = 255
        }
        side = rule.resolution
        bytes = pixels
    }

    /// Red, green and blue of each pixel, row by row.
    public var rgb: [UInt8] {
        stride(from: 0, to: bytes.count, by: 4).flatMap { [bytes[$0 + 2], bytes[$0 + 1], bytes[$0]] }
    }

    /// A buffer with these pixels in memory that the units of the chip share.
    func pixelBuffer() throws(OptimizedModelError) -> CVPixelBuffer {
        let shared: [String: Any] = [kCVPixelBufferIOSurfacePropertiesKey as String: [String: Any]()]
        var created: CVPixelBuffer?
        let status = CVPixelBufferCreate(
            kCFAllocatorDefault, side, side, kCVPixelFormatType_32BGRA, shared as CFDictionary, &created
        )
        guard status == kCVReturnSuccess, let buffer = created else {
            throw OptimizedModelError.bufferRefused(status: status)
        }
        let locked = CVPixelBufferLockBaseAddress(buffer, [])
        guard locked == kCVReturnSuccess else { throw OptimizedModelError.bufferRefused(status: locked) }
        defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
        guard let start = CVPixelBufferGetBaseAddress(buffer) else {
            throw OptimizedModelError.bufferRefused(status: kCVReturnError)
        }
        let (width, padded) = (4 * side, CVPixelBufferGetBytesPerRow(buffer))
        for row in 0..<side {
            let place = UnsafeMutableRawBufferPointer(start: start + row * padded, count: width)
            place.copyBytes(from: bytes[(row * width)..<((row + 1) * width)])
        }
        return buffer
    }

    private static func canvas(_ side: Int) throws(OptimizedModelError) -> CGContext {
        let layout = CGBitmapInfo.byteOrder32Little.rawValue | CGImageAlphaInfo.noneSkipFirst.rawValue
        guard let space = CGColorSpace(name: CGColorSpace.sRGB),
            let context = CGContext(
                data: nil, width: side, height: side, bitsPerComponent: 8, bytesPerRow: 4 * side, space: space,
                bitmapInfo: layout
            )
        else {
            throw OptimizedModelError.unreadableImage(reason: "no canvas of \(side) × \(side) pixels can be made")
        }
        return context
    }

    /// The picture turned as its orientation says; Core Image turns it without touching its colours.
    private static func upright(
        _ image: CGImage, _ orientation: CGImagePropertyOrientation
    ) throws(OptimizedModelError) -> CGImage {
        guard orientation != .up else { return image }
        let turned = CIImage(cgImage: image, options: [.colorSpace: NSNull()]).oriented(orientation)
        let untouched = CIContext(options: [.workingColorSpace: NSNull(), .outputColorSpace: NSNull()])
        guard let upright = untouched.createCGImage(turned, from: turned.extent) else {
            throw OptimizedModelError.unreadableImage(reason: "Core Image cannot turn it upright")
        }
        return upright
    }

    /// The same numbers, said to be sRGB: drawing them changes none. Pictures that are not RGB are converted.
    private static func unprofiled(_ image: CGImage) -> CGImage {
        guard image.colorSpace?.model == .rgb, let space = CGColorSpace(name: CGColorSpace.sRGB) else { return image }
        return image.copy(colorSpace: space) ?? image
    }
}
