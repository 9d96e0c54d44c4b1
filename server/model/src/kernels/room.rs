//! The memory of a model's weights on a card, taken in one piece. In pieces of their own they would lie between what comes
//! and goes while loading, and the driver's pool keeps the gaps: 3 GB of them for the published model.

use candle_core::{DType, Device, Result, Tensor, bail};

/// Pieces begin at multiples of as many elements, which suits every kernel.
const ALIGNED: usize = 256;

/// Memory that pieces are taken from, one behind the other, and never given back to.
pub struct Room {
    /// [elements]
    memory: Tensor,
    taken: usize,
}

impl Room {
    /// Elements that weights of so many take, each in one piece or two, or several of them in one.
    pub fn elements(weights: impl Iterator<Item = usize>) -> usize {
        let all: usize = weights.map(|n| n.next_multiple_of(ALIGNED) + ALIGNED).sum();
        all.max(ALIGNED)
    }

    /// Memory for so many elements, yet to be written.
    pub fn new(elements: usize, dtype: DType, device: &Device) -> Result<Self> {
        #[cfg(feature = "cuda")]
        if let Device::Cuda(card) = device {
            let memory = super::cuda::unwritten(&*super::cuda::Gpu::of(card)?, elements, dtype)?;
            return Ok(Room { memory, taken: 0 });
        }
        let memory = Tensor::zeros(elements, dtype, device)?;
        Ok(Room { memory, taken: 0 })
    }

    #[cfg(feature = "cuda")]
    pub fn device(&self) -> &Device {
        self.memory.device()
    }

    /// The next piece: [n].
    ///
    /// # Errors
    /// There is no room for it.
    pub fn take(&mut self, n: usize) -> Result<Tensor> {
        let all = self.memory.elem_count();
        if self.taken + n > all {
            bail!("{n} elements where {} of {all} are taken", self.taken)
        }
        let piece = self.memory.narrow(0, self.taken, n)?;
        self.taken = (self.taken + n).next_multiple_of(ALIGNED);
        Ok(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_room_in_one_piece_in_two_and_together() {
        let sizes = [1, 255, 256, 257, 1000];
        let elements = Room::elements(sizes.into_iter());
        let room = || Room::new(elements, DType::F32, &Device::Cpu).unwrap();
        let (mut whole, mut apart, mut together) = (room(), room(), room());
        for n in sizes {
            assert_eq!(whole.take(n).unwrap().dims(), [n]);
            apart.take(n / 3).unwrap();
            apart.take(n - n / 3).unwrap();
        }
        together.take(sizes.iter().sum()).unwrap();
        assert!(whole.take(elements).is_err());
        assert!(Room::new(Room::elements([].into_iter()), DType::U8, &Device::Cpu).is_ok());
    }

    #[test]
    fn pieces_do_not_meet() {
        let elements = Room::elements([300, 5].into_iter());
        let mut room = Room::new(elements, DType::F32, &Device::Cpu).unwrap();
        let (a, b) = (room.take(300).unwrap(), room.take(5).unwrap());
        let ones = |n: usize| Tensor::ones(n, DType::F32, &Device::Cpu).unwrap();
        a.slice_set(&ones(300), 0, 0).unwrap();
        assert_eq!(b.to_vec1::<f32>().unwrap(), [0.0; 5]);
        b.slice_set(&ones(5).affine(2.0, 0.0).unwrap(), 0, 0)
            .unwrap();
        assert_eq!(a.to_vec1::<f32>().unwrap(), [1.0; 300]);
    }
}
