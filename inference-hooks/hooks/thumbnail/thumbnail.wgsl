// An area average in two passes. Lengths are counted in units of 1/small of a source line, so that the share of
// each line that an output line covers is a whole number: large * small stays below 2^32 because a dispatch
// covers at most 65,535 groups of 8 lines and `side` is at most 2048.

fn share(line: u32, at: u32, large: u32, small: u32) -> f32 {
    return f32(min((line + 1u) * small, (at + 1u) * large) - max(line * small, at * large));
}

// Narrows every source row; colours are weighted by alpha, so that what is transparent leaves no colour.
@compute @workgroup_size(8, 8)
fn across(@builtin(global_invocation_id) id: vec3<u32>) {
    let file = files[id.z];
    if id.x >= file.out_width || id.y >= file.height {
        return;
    }
    let end = (id.x + 1u) * file.width;
    let row = file.offset + id.y * file.width;
    var sum = vec4<f32>();
    for (var x = id.x * file.width / file.out_width; x * file.out_width < end; x++) {
        let pixel = unpack4x8unorm(input[row + x]);
        let weight = share(x, id.x, file.width, file.out_width) / f32(file.width);
        sum += weight * vec4(pixel.rgb * pixel.a, pixel.a);
    }
    rows[rows_at(id.z) + id.y * file.out_width + id.x] = sum;
}

@compute @workgroup_size(8, 8)
fn down(@builtin(global_invocation_id) id: vec3<u32>) {
    let file = files[id.z];
    if id.x >= file.out_width || id.y >= file.out_height {
        return;
    }
    if id.x == 0u && id.y == 0u {
        report[id.z].width = file.width;
        report[id.z].height = file.height;
    }
    let end = (id.y + 1u) * file.height;
    var sum = vec4<f32>();
    for (var y = id.y * file.height / file.out_height; y * file.out_height < end; y++) {
        let weight = share(y, id.y, file.height, file.out_height) / f32(file.height);
        sum += weight * rows[rows_at(id.z) + y * file.out_width + id.x];
    }
    let colour = select(vec3<f32>(), sum.rgb / sum.a, sum.a > 0.0);
    output[file.out_offset + id.y * file.out_width + id.x] = pack4x8unorm(vec4(colour, sum.a));
}
