//! What the host and the kernels both lay out or count with: what a kernel is handed by value or by address, and the numbers
//! that a launch goes by. The kernels' sources assert the same sizes and places (`LAYOUT` and `FIELD` of common.cuh); a test
//! compares both sides, on machines without a card too.

/// An address in the card's memory.
pub type Address = u64;

/// `Weight` of formats.cuh: a weight [rows, k], plain or in blocks.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct WeightAddress {
    pub data: Address,
    pub scales: Address,
    pub rows: i32,
    pub k: i32,
}

/// `Span` of plan.cuh: what a sequence has in a forward pass.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SpanWords {
    /// Entries in the cache before these.
    pub start: u32,
    /// New entries.
    pub len: u32,
    /// The first one's row in the batch.
    pub first_row: u32,
    /// Where its pages begin among all.
    pub pages_at: u32,
}

impl SpanWords {
    /// The words as they lie in memory.
    pub fn words(self) -> [u32; 4] {
        [self.start, self.len, self.first_row, self.pages_at]
    }
}

/// `Plan` of plan.cuh: where a forward pass's plan lies.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PlanAddresses {
    pub spans: Address,
    pub pages: Address,
    pub positions: Address,
    pub row_spans: Address,
    pub tiles: Address,
    pub frequencies: Address,
    pub pairs: i32,
}

/// `Cache` of plan.cuh: where the cache lies, and a layer of it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CacheAddress {
    pub data: Address,
    pub layers: i32,
    pub kv_heads: i32,
    pub layer: i32,
}

/// `Shares` of attention.cuh: where blocks that share a tile's keys leave what they have.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Shares {
    pub data: Address,
    pub splits: i32,
}

/// `Cut` of ring.cuh: how a picture's blocks are cut by keys.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Cut {
    pub whole: i32,
    pub parts: i32,
}

/// `Product` of decode_weights.cuh: a product of a decode step, or a part of its outputs.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct StepProduct {
    pub weight: WeightAddress,
    pub input: Address,
    pub norm: Address,
    pub bias: Address,
    pub out: Address,
    pub width: i32,
    pub format: i32,
    pub mode: Mode,
    pub part: i32,
    pub reading: i32,
    pub first: i32,
}

/// `Mode` of decode_weights.cuh: what stands before and behind a product.
#[repr(i32)]
#[derive(Clone, Copy)]
pub enum Mode {
    NormBias,
    NormGated,
    NormF32,
    Add,
}

/// `Step` of decode.cu: a decode step's parameters.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct StepAddresses {
    pub products: Address,
    pub count: i32,
    pub readings: i32,
    pub embedding: WeightAddress,
    pub embedding_format: i32,
    pub plan: PlanAddresses,
    pub cache: CacheAddress,
    pub ids: Address,
    pub x: Address,
    pub qkv: Address,
    pub attention: Address,
    pub shares: Address,
    pub arrived: Address,
    pub rows: i32,
    pub tiles: i32,
    pub heads: i32,
    pub tasks: i32,
    pub joined: i32,
    pub found: i32,
    pub eps: f32,
}

/// `ManyShape` of hopper_stream.cuh: a product of every layer, or the output's.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ManyShape {
    pub k: i32,
    pub outputs: i32,
    pub halves: i32,
}

/// `ManyLayer` of hopper_step.cu: what stands beside a layer's products.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ManyLayer {
    pub qkv_bias: Address,
    pub mlp_norm: Address,
    pub next_norm: Address,
}

/// `Many` of hopper_step.cu: the parameters of a decode step of many rows.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ManyAddresses {
    pub maps: Address,
    pub layers: Address,
    pub embedding: Address,
    pub first_norm: Address,
    pub plan: PlanAddresses,
    pub cache: CacheAddress,
    pub ids: Address,
    pub normed: Address,
    pub squares: Address,
    pub qkv: Address,
    pub attention: Address,
    pub mlp: Address,
    pub shares: Address,
    pub logits: Address,
    pub arrived: Address,
    pub scales: Address,
    pub shapes: [ManyShape; 5],
    pub rows: i32,
    pub heads: i32,
    pub eps: f32,
}

/// Of each struct, by its name in the kernels' sources: its size, its alignment, and where each field begins, in bytes.
macro_rules! layouts {
    ($($name:ident = $type:ty: $size:literal, $alignment:literal { $($field:ident: $at:literal),* $(,)? })*) => {
        $(const _: () = {
            assert!(size_of::<$type>() == $size && align_of::<$type>() == $alignment);
            $(assert!(std::mem::offset_of!($type, $field) == $at);)*
        };)*

        #[cfg(test)]
        const LAYOUTS: &[(&str, usize, usize, &[(&str, usize)])] =
            &[$((stringify!($name), $size, $alignment, &[$((stringify!($field), $at)),*])),*];
    };
}

layouts! {
    Weight = WeightAddress: 24, 8 { data: 0, scales: 8, rows: 16, k: 20 }
    Span = SpanWords: 16, 4 { start: 0, len: 4, first_row: 8, pages_at: 12 }
    Plan = PlanAddresses: 56, 8 {
        spans: 0, pages: 8, positions: 16, row_spans: 24, tiles: 32, frequencies: 40, pairs: 48
    }
    Cache = CacheAddress: 24, 8 { data: 0, layers: 8, kv_heads: 12, layer: 16 }
    Shares = Shares: 16, 8 { data: 0, splits: 8 }
    Cut = Cut: 8, 4 { whole: 0, parts: 4 }
    Product = StepProduct: 80, 8 {
        weight: 0, input: 24, norm: 32, bias: 40, out: 48, width: 56, format: 60, mode: 64, part: 68, reading: 72, first: 76
    }
    Step = StepAddresses: 208, 8 {
        products: 0, count: 8, readings: 12, embedding: 16, embedding_format: 40, plan: 48, cache: 104, ids: 128, x: 136,
        qkv: 144, attention: 152, shares: 160, arrived: 168, rows: 176, tiles: 180, heads: 184, tasks: 188, joined: 192,
        found: 196, eps: 200
    }
    ManyShape = ManyShape: 12, 4 { k: 0, outputs: 4, halves: 8 }
    ManyLayer = ManyLayer: 24, 8 { qkv_bias: 0, mlp_norm: 8, next_norm: 16 }
    Many = ManyAddresses: 264, 8 {
        maps: 0, layers: 8, embedding: 16, first_norm: 24, plan: 32, cache: 88, ids: 112, normed: 120, squares: 128, qkv: 136,
        attention: 144, mlp: 152, shares: 160, logits: 168, arrived: 176, scales: 184, shapes: 192, rows: 252, heads: 256,
        eps: 260
    }
}

const _: () = {
    use Mode::*;
    assert!(
        NormBias as i32 == 0 && NormGated as i32 == 1 && NormF32 as i32 == 2 && Add as i32 == 3
    );
};

/// Rows of a weight in blocks that lie beside each other: `TILE` of formats.cuh.
pub const TILE: usize = 8;

/// Bytes of a `Slice` of formats.cuh: of a tile eight units a row, 16 bytes each, and what holds their scales.
pub const SLICE: usize = 1184;

/// Threads that multiply together on Hopper: `WARP_GROUP` of hopper.cuh.
pub const WARP_GROUP: usize = 128;

/// Sizes of a decode step: decode_weights.cuh, decode_product.cuh and decode_attention.cuh.
pub mod step {
    /// Warps of a block.
    pub const WARPS: usize = 16;
    /// Rows of inputs at most.
    pub const MOST: usize = 2;
    /// Query heads that a block attends with at once.
    pub const HEADS: usize = 16;
    /// Groups of a block's warps in attention, which share a page's keys.
    pub const GROUPS: usize = 4;
    /// Blocks that share the pages of a sequence between them, at most.
    pub const SPLITS: usize = 64;
    /// Bytes of what a block keeps in its shared memory.
    pub const BATCH: usize = 1024;
    pub const READING: usize = 80;
    pub const LOCATION: usize = 24;
    pub const TASK: usize = 48;
    pub const JOINED: usize = 16;
}

/// Sizes of a decode step of many rows: hopper_stream.cuh, hopper_attend.cuh and hopper_step.cu.
pub mod many_rows {
    /// Warps of a block that compute.
    pub const WARPS: usize = 8;
    /// Rows of inputs at most.
    pub const ROWS: usize = 16;
    /// Rows of a tile, columns of a unit, units of a pass, and lines of 128 bytes of a bulk copy.
    pub const TILE: usize = 8;
    pub const UNIT: usize = 64;
    pub const PASS_UNITS: usize = 64;
    pub const BOX_LINES: usize = 32;
    /// Keys that a warp attends to at once, and query heads.
    pub const CHUNK: usize = 16;
    pub const HEADS: usize = 16;
    /// Key/value heads of all rows at most.
    pub const SEGMENTS: usize = 64;
    /// Bytes of what a block keeps in its shared memory, whatever the model's sizes are.
    pub const SHARED: usize = 186_416;
}

/// Sizes of the search for the largest scores: scores.cu.
pub mod scores {
    /// Scores of a group, and groups of a warp that takes their largest.
    pub const GROUP: usize = 64;
    pub const WARP_GROUPS: usize = 8;
    /// Threads of the block that lists a row's, and groups of each.
    pub const SEEKERS: usize = 1024;
    pub const SEEKER_GROUPS: usize = 8;
    /// What can be listed of a row.
    pub const LISTED: usize = 512;
}

/// Sizes of products of few rows with weights in blocks: quantized.cu.
pub mod few_rows {
    /// Warps of a block, its tiles, and the slices of each that are under way.
    pub const WARPS: usize = 8;
    pub const TILES: usize = 4;
    pub const STAGES: usize = 2;
}

/// Sizes of Hopper's attention: ring.cuh and hopper.cu.
pub mod ring {
    /// Tiles of keys, and of values, in a block's ring.
    pub const STAGES: usize = 2;
    /// Keys of a tile: a picture's, and the cache's.
    pub const VISION_KEYS: usize = 176;
    pub const PAGED_KEYS: usize = 128;
    /// Bytes of a block's shared memory: a picture's with heads of 112, and the cache's with heads of 128.
    pub const VISION_112: usize = 213_064;
    pub const PAGED_128: usize = 163_912;
}

/// Sizes of Hopper's products with an epilogue: product.cuh and hopper.cu.
pub mod product {
    /// Groups that multiply, their stages of 64 columns, and rows of results that leave together.
    pub const GROUPS: usize = 2;
    pub const STAGES: usize = 4;
    pub const PART: usize = 48;
    /// Weights that two blocks share, and rows of each block.
    pub const WEIGHTS: usize = 256;
    pub const ROWS: usize = 136;
    /// Bytes of a block's shared memory.
    pub const SHARED: usize = 225_344;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    fn folder() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda")
    }

    /// All of the kernels' sources, one behind the other.
    fn sources() -> String {
        let files = std::fs::read_dir(folder()).unwrap();
        files
            .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
            .collect()
    }

    /// What stands in brackets behind `name` at the beginning of a line or behind another such, part by part.
    fn calls<'a>(source: &'a str, name: &str) -> Vec<Vec<&'a str>> {
        let parts = source.match_indices(name).filter_map(|(at, _)| {
            let before = source[..at].chars().next_back();
            let rest = source[at + name.len()..].strip_prefix('(')?;
            let call = rest.split_once(')')?.0;
            matches!(before, Some('\n' | ' ')).then(|| call.split(',').map(str::trim).collect())
        });
        parts.collect()
    }

    /// Size and alignment of each struct that the kernels' sources assert.
    fn asserted(source: &str) -> BTreeMap<&str, (usize, usize)> {
        let all = calls(source, "LAYOUT").into_iter().filter_map(|call| {
            let [name, size, alignment] = call[..] else {
                panic!("{call:?}")
            };
            // The macro's own definition has no numbers.
            Some((name, (size.parse().ok()?, alignment.parse().ok()?)))
        });
        all.collect()
    }

    #[test]
    fn the_kernels_assert_the_same_layout() {
        let source = sources();
        let structs = asserted(&source);
        let mut fields = BTreeMap::new();
        for call in calls(&source, "FIELD") {
            let [name, field, at] = call[..] else {
                panic!("{call:?}")
            };
            if let Ok(at) = at.parse::<usize>() {
                assert_eq!(fields.insert((name, field), at), None, "{name}.{field}");
            }
        }
        for (name, size, alignment, of) in LAYOUTS {
            assert_eq!(structs.get(name), Some(&(*size, *alignment)), "{name}");
            for (field, at) in *of {
                assert_eq!(fields.remove(&(*name, *field)), Some(*at), "{name}.{field}");
            }
        }
        assert!(fields.is_empty(), "the host has none of {fields:?}");
    }

    #[test]
    fn the_kernels_keep_as_much_in_shared_memory() {
        let source = sources();
        let structs = asserted(&source);
        for (name, size) in [
            ("Slice", SLICE),
            ("Batch", step::BATCH),
            ("Reading", step::READING),
            ("Location", step::LOCATION),
            ("Task", step::TASK),
            ("Joined", step::JOINED),
            ("VisionRing<bf16>", ring::VISION_112),
            ("PagedRing<bf16>", ring::PAGED_128),
            ("ProductTiles<bf16>", product::SHARED),
            ("ManyMemory128", many_rows::SHARED),
        ] {
            assert_eq!(structs.get(name).map(|s| s.0), Some(size), "{name}");
        }
    }

    #[test]
    fn the_kernels_count_with_the_same_numbers() {
        for (file, name, value) in [
            ("plan.cuh", "PAGE", crate::kernels::PAGE),
            ("formats.cuh", "TILE", TILE),
            ("hopper.cuh", "WARP_GROUP", WARP_GROUP),
            ("decode_weights.cuh", "WARPS", step::WARPS),
            ("decode_weights.cuh", "MOST", step::MOST),
            ("decode_attention.cuh", "HEADS", step::HEADS),
            ("decode_attention.cuh", "GROUPS", step::GROUPS),
            ("decode_attention.cuh", "SPLITS", step::SPLITS),
            ("hopper_stream.cuh", "MANY_WARPS", many_rows::WARPS),
            ("hopper_stream.cuh", "MANY_ROWS", many_rows::ROWS),
            ("hopper_stream.cuh", "MANY_TILE", many_rows::TILE),
            ("hopper_stream.cuh", "MANY_UNIT", many_rows::UNIT),
            ("hopper_stream.cuh", "BOX_LINES", many_rows::BOX_LINES),
            ("hopper_stream.cuh", "PASS_UNITS", many_rows::PASS_UNITS),
            ("hopper_stream.cuh", "CHUNK", many_rows::CHUNK),
            ("hopper_stream.cuh", "MANY_SEGMENTS", many_rows::SEGMENTS),
            ("hopper_attend.cuh", "MANY_HEADS", many_rows::HEADS),
            ("quantized.cu", "WARPS", few_rows::WARPS),
            ("scores.cu", "GROUP", scores::GROUP),
            ("scores.cu", "WARP_GROUPS", scores::WARP_GROUPS),
            ("scores.cu", "SEEKERS", scores::SEEKERS),
            ("scores.cu", "SEEKER_GROUPS", scores::SEEKER_GROUPS),
            ("scores.cu", "LISTED", scores::LISTED),
            ("quantized.cu", "TILES", few_rows::TILES),
            ("quantized.cu", "STAGES", few_rows::STAGES),
            ("ring.cuh", "STAGES", ring::STAGES),
            ("product.cuh", "GROUPS", product::GROUPS),
            ("product.cuh", "STAGES", product::STAGES),
            ("product.cuh", "PART", product::PART),
            ("hopper.cu", "VISION_KEYS", ring::VISION_KEYS),
            ("hopper.cu", "PAGED_KEYS", ring::PAGED_KEYS),
            ("hopper.cu", "PRODUCT_ROWS", product::ROWS),
        ] {
            let source = std::fs::read_to_string(folder().join(file)).unwrap();
            let constants = source.lines().filter(|line| line.contains("constexpr int"));
            let found = constants
                .flat_map(|line| line.split(&[',', ';']))
                .find_map(|part| {
                    let (left, right) = part.split_once('=')?;
                    (left.split_whitespace().next_back() == Some(name)).then(|| right.trim())
                });
            assert_eq!(found, Some(value.to_string().as_str()), "{name} of {file}");
        }
    }
}
