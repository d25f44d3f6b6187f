use image::{Rgba, RgbaImage};

use super::super::parity::{check, on_cpu, picture, ready_hook};
use crate::gpu::tests::gpu;

#[test]
fn shaders_and_twin_judge_alike() {
    let Some(gpu) = gpu() else { return };
    check(&gpu, &ready_hook("sharpness", &[]));
}

#[test]
fn sums_beyond_32_bits_are_right_on_the_gpu() {
    let Some(gpu) = gpu() else { return };
    let hook = ready_hook("sharpness", &[]);
    // A chessboard of pixels: each square of a Laplacian is about 1020^2, and a million of them need 40 bits.
    let board =
        RgbaImage::from_fn(1024, 1024, |x, y| Rgba([if (x + y) % 2 == 0 { 255 } else { 0 }; 4]));
    let compiled = gpu.compile(&hook).unwrap();
    let found = gpu.run(&hook, &compiled, std::slice::from_ref(&board)).unwrap();
    let expected = on_cpu(&hook, &board).fields["laplacian_variance"].as_f64().unwrap();
    let found = found[0].fields["laplacian_variance"].as_f64().unwrap();
    assert!(expected > 1.0e6 && (found - expected).abs() < expected * 1e-5, "{found} {expected}");
}

#[test]
fn verdicts_follow_the_picture() {
    let hook = ready_hook("sharpness", &[]);
    let flat = |luma| RgbaImage::from_pixel(64, 48, Rgba([luma, luma, luma, 255]));
    for (name, image, expected) in [
        ("noise is sharp", picture([640, 427]), [false, false, false]),
        ("grey is blurred", flat(128), [true, false, false]),
        ("black is dark", flat(3), [true, true, false]),
        ("white is burnt out", flat(255), [true, false, true]),
    ] {
        let fields = on_cpu(&hook, &image).fields;
        let verdicts = ["blurred", "underexposed", "overexposed"].map(|name| fields[name] == true);
        assert_eq!(verdicts, expected, "{name}: {fields:?}");
    }
}

#[test]
fn percentiles_are_the_lowest_luma_that_enough_pixels_do_not_exceed() {
    let hook = ready_hook("sharpness", &[]);
    let ramp = RgbaImage::from_fn(100, 1, |x, _| Rgba([u8::try_from(x).unwrap(); 4]));
    let fields = on_cpu(&hook, &ramp).fields;
    let found = ["luma_p5", "luma_p50", "luma_p95"].map(|name| fields[name].as_u64().unwrap());
    assert_eq!(found, [4, 49, 94]);
    assert!((fields["luma_mean"].as_f64().unwrap() - 49.5).abs() < 1e-9);
}
