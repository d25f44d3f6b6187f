// A group looks at 64 columns of 32 rows. Its own sums fit 32 bits: 2048 pixels * 1020^2 < 2^32. The sums over the
// picture do not, so they are kept as two words.

const ROWS = 32u;
const LAPLACIAN_MAX = 1020u; // 4 * 255: added to every Laplacian, so that sums are of positive numbers

var<workgroup> bins: array<atomic<u32>, 256>;
var<workgroup> laplacians: atomic<u32>;
var<workgroup> squares: atomic<u32>;

// Brightness from 0 to 255, the weights of BT.601 in 256ths.
fn luma(file: File, x: u32, y: u32) -> u32 {
    let pixel = unpack4xU8(input[file.offset + y * file.width + x]);
    return (77u * pixel.r + 150u * pixel.g + 29u * pixel.b + 128u) >> 8u;
}

// Adds to a number of two words: whoever makes the lower one wrap carries.
fn add(at: u32, value: u32) {
    let before = atomicAdd(&sums[at], value);
    if before + value < before {
        atomicAdd(&sums[at + 1u], 1u);
    }
}

@compute @workgroup_size(64)
fn gather(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let file = files[group.z];
    let x = group.x * 64u + local;
    if x < file.width {
        let left = max(x, 1u) - 1u;
        let right = min(x + 1u, file.width - 1u);
        let end = min((group.y + 1u) * ROWS, file.height);
        var laplacian_sum = 0u;
        var square_sum = 0u;
        for (var y = group.y * ROWS; y < end; y++) {
            let here = luma(file, x, y);
            let around = luma(file, left, y) + luma(file, right, y)
                + luma(file, x, max(y, 1u) - 1u) + luma(file, x, min(y + 1u, file.height - 1u));
            let laplacian = i32(around) - 4 * i32(here);
            atomicAdd(&bins[here], 1u);
            laplacian_sum += u32(laplacian + i32(LAPLACIAN_MAX));
            square_sum += u32(laplacian * laplacian);
        }
        atomicAdd(&laplacians, laplacian_sum);
        atomicAdd(&squares, square_sum);
    }
    workgroupBarrier();
    for (var bin = local; bin < 256u; bin += 64u) {
        let count = atomicLoad(&bins[bin]);
        if count > 0u {
            atomicAdd(&histogram[histogram_at(group.z) + bin], count);
        }
    }
    if local == 0u {
        add(sums_at(group.z), atomicLoad(&laplacians));
        add(sums_at(group.z) + 2u, atomicLoad(&squares));
    }
}

fn mean(at: u32, count: f32) -> f32 {
    return (f32(atomicLoad(&sums[at + 1u])) * 4294967296.0 + f32(atomicLoad(&sums[at]))) / count;
}

// So many pixels are `percent` of `count`, rounded up, without overflow.
fn part(count: u32, percent: u32) -> u32 {
    return max(count / 100u * percent + (count % 100u * percent + 99u) / 100u, 1u);
}

@compute @workgroup_size(1)
fn judge(@builtin(workgroup_id) group: vec3<u32>) {
    let file = files[group.z];
    let pixels = file.width * file.height;
    let count = f32(pixels);
    var wanted = array(part(pixels, 5u), part(pixels, 50u), part(pixels, 95u));
    var found = array(255u, 255u, 255u);
    var seen = 0u;
    var dark = 0u;
    var bright = 0u;
    var luma_sum = 0.0;
    for (var bin = 0u; bin < 256u; bin++) {
        let here = atomicLoad(&histogram[histogram_at(group.z) + bin]);
        for (var which = 0u; which < 3u; which++) {
            if seen < wanted[which] && seen + here >= wanted[which] {
                found[which] = bin;
            }
        }
        seen += here;
        dark += select(0u, here, bin <= params.dark_luma);
        bright += select(0u, here, bin >= params.bright_luma);
        luma_sum += f32(bin) * f32(here);
    }
    let laplacian_mean = mean(sums_at(group.z), count) - f32(LAPLACIAN_MAX);
    let variance = mean(sums_at(group.z) + 2u, count) - laplacian_mean * laplacian_mean;
    let dark_fraction = f32(dark) / count;
    let bright_fraction = f32(bright) / count;
    report[group.z].laplacian_variance = variance;
    report[group.z].luma_mean = luma_sum / count;
    report[group.z].luma_p5 = found[0];
    report[group.z].luma_p50 = found[1];
    report[group.z].luma_p95 = found[2];
    report[group.z].dark_fraction = dark_fraction;
    report[group.z].bright_fraction = bright_fraction;
    report[group.z].blurred = u32(variance < params.blurred_below);
    report[group.z].underexposed = u32(dark_fraction > params.dark_fraction_max);
    report[group.z].overexposed = u32(bright_fraction > params.bright_fraction_max);
}
