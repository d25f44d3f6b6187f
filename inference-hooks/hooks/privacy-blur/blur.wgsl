// A triangle filter, weights 1, 2, .., radius + 1, .., 2, 1, first across and then down, in whole numbers: the largest
// sum, 255 * (1024 + 1)^2, fits 32 bits. Beyond an edge the edge's pixel goes on.

const RADIUS_MAX = 1024u;

fn blur_radius(file: File) -> u32 {
    let share = u32(params.strength * f32(max(file.width, file.height)));
    return clamp(max(share, params.radius_min), 1u, RADIUS_MAX);
}

// Whether some mask comes within `reach` rows of a pixel. Every pixel that a mask touches belongs to it.
fn masked(file: File, at: vec2<u32>, reach: u32) -> bool {
    let size = vec2(f32(file.width), f32(file.height));
    for (var mask = 0u; mask < params.masks_count; mask++) {
        let first = vec2<u32>(floor(masks[mask].xy * size));
        let end = vec2<u32>(ceil(masks[mask].zw * size));
        if at.x >= first.x && at.x < end.x && at.y + reach >= first.y && at.y < end.y + reach {
            return true;
        }
    }
    return false;
}

fn unweighted(sum: vec4<u32>, radius: u32) -> u32 {
    let total = (radius + 1u) * (radius + 1u);
    return pack4xU8((sum + total / 2u) / total);
}

@compute @workgroup_size(8, 8)
fn across(@builtin(global_invocation_id) id: vec3<u32>) {
    let file = files[id.z];
    let radius = blur_radius(file);
    if id.x >= file.width || id.y >= file.height || !masked(file, id.xy, radius) {
        return;
    }
    let row = file.offset + id.y * file.width;
    var sum = vec4<u32>();
    for (var tap = 0u; tap <= 2u * radius; tap++) {
        let x = min(max(id.x + tap, radius) - radius, file.width - 1u);
        let weight = min(tap, 2u * radius - tap) + 1u;
        sum += weight * unpack4xU8(input[row + x]);
    }
    blurred_across[blurred_across_at(id.z) + id.y * file.width + id.x] = unweighted(sum, radius);
}

@compute @workgroup_size(8, 8)
fn down(@builtin(global_invocation_id) id: vec3<u32>) {
    let file = files[id.z];
    if id.x >= file.width || id.y >= file.height {
        return;
    }
    let radius = blur_radius(file);
    let here = id.y * file.width + id.x;
    if id.x == 0u && id.y == 0u {
        report[id.z].masks = params.masks_count;
        report[id.z].radius = radius;
    }
    if !masked(file, id.xy, 0u) {
        output[file.out_offset + here] = input[file.offset + here];
        return;
    }
    let column = blurred_across_at(id.z) + id.x;
    var sum = vec4<u32>();
    for (var tap = 0u; tap <= 2u * radius; tap++) {
        let y = min(max(id.y + tap, radius) - radius, file.height - 1u);
        let weight = min(tap, 2u * radius - tap) + 1u;
        sum += weight * unpack4xU8(blurred_across[column + y * file.width]);
    }
    output[file.out_offset + here] = unweighted(sum, radius);
}
