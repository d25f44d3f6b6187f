// c = a * b of square matrices whose side is a multiple of 64. A group makes a square of 64 x 64, each invocation 4 x 4 of it;
// what they share of a and b comes in steps of 16.
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;

var<workgroup> rows: array<f32, 1024>;
var<workgroup> columns: array<f32, 1024>;

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) at: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let side = groups.x * 64u;
    let top = group.y * 64u;
    let left = group.x * 64u;
    var sums: array<vec4<f32>, 4>;
    for (var step = 0u; step < side; step += 16u) {
        for (var i = index; i < 1024u; i += 256u) {
            rows[i] = a[(top + i / 16u) * side + step + i % 16u];
            columns[i] = b[(step + i / 64u) * side + left + i % 64u];
        }
        workgroupBarrier();
        for (var k = 0u; k < 16u; k++) {
            let first = k * 64u + at.x * 4u;
            let column = vec4(columns[first], columns[first + 1u], columns[first + 2u], columns[first + 3u]);
            sums[0] += rows[(at.y * 4u) * 16u + k] * column;
            sums[1] += rows[(at.y * 4u + 1u) * 16u + k] * column;
            sums[2] += rows[(at.y * 4u + 2u) * 16u + k] * column;
            sums[3] += rows[(at.y * 4u + 3u) * 16u + k] * column;
        }
        workgroupBarrier();
    }
    for (var row = 0u; row < 4u; row++) {
        for (var column = 0u; column < 4u; column++) {
            c[(top + at.y * 4u + row) * side + left + at.x * 4u + column] = sums[row][column];
        }
    }
}
