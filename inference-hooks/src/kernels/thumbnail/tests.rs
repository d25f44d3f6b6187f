use image::{Rgba, RgbaImage};

use super::super::parity::{check, on_cpu, ready_hook};
use crate::gpu::tests::gpu;

#[test]
fn shaders_and_twin_make_the_same_thumbnail() {
    let Some(gpu) = gpu() else { return };
    check(&gpu, &ready_hook("thumbnail", &[]));
}

#[test]
fn a_thumbnail_is_the_mean_of_what_it_covers() {
    let hook = ready_hook("thumbnail", &[]);
    // 512 columns of black and white by turns: every pixel of the half-size picture is the mean of both.
    let stripes =
        RgbaImage::from_fn(512, 2, |x, _| Rgba(if x % 2 == 0 { [0, 0, 0, 255] } else { [255; 4] }));
    let small = on_cpu(&hook, &stripes).image.unwrap();
    assert_eq!(small.dimensions(), (256, 1));
    assert!(
        small.pixels().all(|pixel| pixel.0 == [128, 128, 128, 255]),
        "{:?}",
        small.get_pixel(9, 0)
    );
}

#[test]
fn what_is_transparent_leaves_no_colour() {
    let hook = ready_hook("thumbnail", &[]);
    let halves = RgbaImage::from_fn(512, 2, |x, _| {
        Rgba(if x % 2 == 0 { [255, 0, 0, 0] } else { [0, 0, 200, 255] })
    });
    let small = on_cpu(&hook, &halves).image.unwrap();
    assert!(small.pixels().all(|pixel| pixel.0 == [0, 0, 200, 128]), "{:?}", small.get_pixel(9, 0));
}

#[test]
fn a_small_picture_stays_as_it_is() {
    let hook = ready_hook("thumbnail", &[]);
    let image =
        RgbaImage::from_fn(7, 5, |x, y| Rgba([u8::try_from(x * 30 + y).unwrap(), 3, 250, 255]));
    assert_eq!(on_cpu(&hook, &image).image.unwrap(), image);
}
