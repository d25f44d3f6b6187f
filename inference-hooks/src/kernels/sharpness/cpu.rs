use image::RgbaImage;
use serde_json::{Map, Value};

use super::super::{CpuInput, CpuOutput};

/// What is summed over all pixels.
struct Sums {
    histogram: [u64; 256],
    laplacian: i64,
    laplacian_squared: u64,
}

pub(super) fn run(input: &CpuInput<'_>) -> CpuOutput {
    let sums = gather(input.image);
    let count: u64 = sums.histogram.iter().sum();
    let mean = |sum: f64| sum / count as f64;
    let laplacian_mean = mean(sums.laplacian as f64);
    let variance = mean(sums.laplacian_squared as f64) - laplacian_mean * laplacian_mean;
    let luma_sum: u64 =
        (0..).zip(sums.histogram).map(|(luma, count): (u64, u64)| luma * count).sum();
    let fraction = |sums: &[u64]| mean(sums.iter().sum::<u64>() as f64);
    let bin = |name| input.u32(name).min(255) as usize;
    let (dark, bright) = (bin("dark_luma"), bin("bright_luma"));
    let dark_fraction = fraction(&sums.histogram[..=dark]);
    let bright_fraction = fraction(&sums.histogram[bright..]);
    let fields: [(&str, Value); 10] = [
        ("laplacian_variance", variance.into()),
        ("luma_mean", mean(luma_sum as f64).into()),
        ("luma_p5", percentile(&sums.histogram, count, 5).into()),
        ("luma_p50", percentile(&sums.histogram, count, 50).into()),
        ("luma_p95", percentile(&sums.histogram, count, 95).into()),
        ("dark_fraction", dark_fraction.into()),
        ("bright_fraction", bright_fraction.into()),
        ("blurred", (variance < f64::from(input.f32("blurred_below"))).into()),
        ("underexposed", (dark_fraction > f64::from(input.f32("dark_fraction_max"))).into()),
        ("overexposed", (bright_fraction > f64::from(input.f32("bright_fraction_max"))).into()),
    ];
    let fields = fields.map(|(name, value)| (name.to_owned(), value));
    CpuOutput { image: None, rows: Vec::new(), fields: Map::from_iter(fields) }
}

/// One pass over the picture. Beyond an edge the edge's pixel goes on.
fn gather(image: &RgbaImage) -> Sums {
    let mut sums = Sums { histogram: [0; 256], laplacian: 0, laplacian_squared: 0 };
    let (width, height) = image.dimensions();
    for y in 0..height {
        for x in 0..width {
            let here = luma(image, x, y);
            let around = luma(image, x.saturating_sub(1), y)
                + luma(image, (x + 1).min(width - 1), y)
                + luma(image, x, y.saturating_sub(1))
                + luma(image, x, (y + 1).min(height - 1));
            let laplacian = i64::from(around) - 4 * i64::from(here);
            sums.histogram[here as usize] += 1;
            sums.laplacian += laplacian;
            sums.laplacian_squared += (laplacian * laplacian).unsigned_abs();
        }
    }
    sums
}

/// Brightness from 0 to 255, the weights of BT.601 in 256ths.
fn luma(image: &RgbaImage, x: u32, y: u32) -> u32 {
    let [red, green, blue, _] = image.get_pixel(x, y).0.map(u32::from);
    (77 * red + 150 * green + 29 * blue + 128) >> 8
}

/// The lowest luma that at least `percent` of all pixels do not exceed.
fn percentile(histogram: &[u64; 256], count: u64, percent: u64) -> u32 {
    let wanted = (count * percent).div_ceil(100).max(1);
    let mut seen = 0;
    let reached = (0..).zip(histogram).find(|(_, bin): &(u32, &u64)| {
        seen += **bin;
        seen >= wanted
    });
    reached.map_or(255, |(luma, _)| luma)
}
