import CoreGraphics
import CoreVideo
import Foundation
import ImageIO
import VideoToolbox

/// A picture from a file or a frame, with the orientation that makes it upright.
struct Picture {
    let image: CGImage
    let orientation: CGImagePropertyOrientation

    init(contentsOf file: URL) throws(OptimizedModelError) {
        guard let source = CGImageSourceCreateWithURL(file as CFURL, nil),
            let image = CGImageSourceCreateImageAtIndex(source, 0, nil)
        else {
            throw OptimizedModelError.unreadableImage(reason: "\(file.lastPathComponent) is no image that ImageIO reads")
        }
        let properties = CGImageSourceCopyPropertiesAtIndex(source, 0, nil) as? [CFString: Any]
        let stored = properties?[kCGImagePropertyOrientation] as? UInt32
        self.image = image
        orientation = stored.flatMap(CGImagePropertyOrientation.init(rawValue:)) ?? .up
    }

    init(_ pixelBuffer: CVPixelBuffer, orientation: CGImagePropertyOrientation) throws(OptimizedModelError) {
        var made: CGImage?
        let status = VTCreateCGImageFromCVPixelBuffer(pixelBuffer, options: nil, imageOut: &made)
        guard status == noErr, let image = made else {
            throw OptimizedModelError.unreadableImage(reason: "VideoToolbox refuses the frame, status \(status)")
        }
        self.image = image
        self.orientation = orientation
    }
}
