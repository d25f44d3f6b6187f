use super::super::parity::{SIZES, check, on_cpu, picture, ready_hook};
use crate::gpu::tests::gpu;

/// Two that overlap, one at the edge, one thinner than a pixel.
const MASKS: &str = "strength = 0.005\nmasks = [
    { x = 0.1, y = 0.2, width = 0.3, height = 0.25 },
    { x = 0.3, y = 0.3, width = 0.3, height = 0.4 },
    { x = 0.9, y = 0.0, width = 0.1, height = 1.0 },
    { x = 0.0, y = 0.95, width = 1.0, height = 0.0001 },
]";

#[test]
fn shaders_and_twin_blur_alike() {
    let Some(gpu) = gpu() else { return };
    check(&gpu, &ready_hook("privacy-blur", &[("params.toml", MASKS)]));
}

#[test]
fn only_what_a_mask_touches_changes() {
    let hook = ready_hook("privacy-blur", &[("params.toml", MASKS)]);
    for size in SIZES {
        let image = picture(*size);
        let blurred = on_cpu(&hook, &image).image.unwrap();
        let [width, height] = size.map(f64::from);
        let inside = |x: u32, y: u32| {
            let touches = |from: f64, len: f64, at: u32, size: f64| {
                f64::from(at) + 1.0 > from * size - 1e-3
                    && f64::from(at) < (from + len) * size + 1e-3
            };
            [
                (0.1, 0.2, 0.3, 0.25),
                (0.3, 0.3, 0.3, 0.4),
                (0.9, 0.0, 0.1, 1.0),
                (0.0, 0.95, 1.0, 0.0001),
            ]
            .iter()
            .any(|(left, top, w, h)| touches(*left, *w, x, width) && touches(*top, *h, y, height))
        };
        for (x, y, pixel) in image.enumerate_pixels() {
            assert!(inside(x, y) || blurred.get_pixel(x, y) == pixel, "{size:?} at {x}, {y}");
        }
    }
}

#[test]
fn as_delivered_the_whole_picture_is_beyond_recognition() {
    let hook = ready_hook("privacy-blur", &[]);
    let image = picture([640, 427]);
    let blurred = on_cpu(&hook, &image).image.unwrap();
    let steps = |image: &image::RgbaImage| {
        let mut sum = 0_u64;
        for (x, y, pixel) in image.enumerate_pixels().filter(|(x, ..)| *x > 0) {
            sum += u64::from(pixel.0[1].abs_diff(image.get_pixel(x - 1, y).0[1]));
        }
        sum
    };
    assert!(steps(&blurred) * 5 < steps(&image), "{} of {}", steps(&blurred), steps(&image));
}

#[test]
fn the_fast_filter_is_the_slow_one() {
    let hook = ready_hook("privacy-blur", &[]);
    let image = picture([37, 29]);
    let output = on_cpu(&hook, &image);
    let radius = i64::from(u32::try_from(output.fields["radius"].as_u64().unwrap()).unwrap());
    let filter = |line: &dyn Fn(i64) -> u32, at: i64| -> u32 {
        let weights =
            (-radius..=radius).map(|d| u32::try_from(radius + 1 - d.abs()).unwrap() * line(at + d));
        let total = u32::try_from((radius + 1) * (radius + 1)).unwrap();
        (weights.sum::<u32>() + total / 2) / total
    };
    let clamp = |at: i64, len: u32| u32::try_from(at.clamp(0, i64::from(len) - 1)).unwrap();
    for (x, y) in [(0, 0), (36, 28), (17, 3), (5, 20)] {
        let across = |y: i64| {
            let row = clamp(y, 29);
            filter(&|x| u32::from(image.get_pixel(clamp(x, 37), row).0[1]), x)
        };
        let expected = filter(&across, y);
        let blurred = output.image.as_ref().unwrap().get_pixel(clamp(x, 37), clamp(y, 29)).0[1];
        assert_eq!(u32::from(blurred), expected, "at {x}, {y}");
    }
}
