//! Matrices of perpendicular rows.

use candle_core::{DType, Device, Tensor};

use crate::error::Result;

/// From a matrix `[rows, columns]` of normal numbers to one of perpendicular rows of length `gain` that span the same
/// space, every direction being equally likely; where there are more rows than columns, of perpendicular columns.
///
/// By way of the Cholesky factor of the rows' products, A Aᵀ = L Lᵀ: the rows of L⁻¹ A are perpendicular. As the
/// products square whatever is nearly dependent, it is done twice, which makes them so to the last digits of f64
/// (Yamamoto et al. 2015, "CholeskyQR2").
///
/// # Errors
/// Out of memory.
pub fn from_normal(values: Vec<f32>, rows: usize, columns: usize, gain: f32) -> Result<Vec<f32>> {
    let drawn = Tensor::from_vec(values, (rows, columns), &Device::Cpu)?.to_dtype(DType::F64)?;
    let wide = rows <= columns;
    let mut matrix = if wide { drawn } else { drawn.t()? };
    for _ in 0..2 {
        let products = matrix.matmul(&matrix.t()?)?.to_vec2()?;
        let count = products.len();
        let inverse = inverse(&cholesky(products));
        let inverse = Tensor::from_vec(inverse.concat(), (count, count), &Device::Cpu)?;
        matrix = inverse.matmul(&matrix)?;
    }
    let matrix = if wide { matrix } else { matrix.t()? };
    let scaled = (matrix * f64::from(gain))?.to_dtype(DType::F32)?;
    Ok(scaled.flatten_all()?.to_vec1()?)
}

/// The lower triangle L of A = L Lᵀ, for A symmetric and positive.
fn cholesky(mut a: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    for i in 0..a.len() {
        let (above, below) = a.split_at_mut(i);
        let row = &mut below[0];
        for (j, other) in above.iter().enumerate() {
            row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
        }
        row[i] = (row[i] - dot(&row[..i], &row[..i])).sqrt();
        row[i + 1..].fill(0.);
    }
    a
}

/// The inverse of a lower triangle, row by row: L X = 1.
fn inverse(l: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut x: Vec<Vec<f64>> = Vec::with_capacity(l.len());
    for (i, row) in l.iter().enumerate() {
        let mut made = vec![0.; l.len()];
        made[i] = 1.;
        for (factor, earlier) in row.iter().zip(&x) {
            let pairs = made.iter_mut().zip(earlier);
            pairs.for_each(|(made, earlier)| *made -= factor * earlier);
        }
        made.iter_mut().for_each(|v| *v /= row[i]);
        x.push(made);
    }
    x
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
