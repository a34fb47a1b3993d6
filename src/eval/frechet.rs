//! The Frechet distance between two clouds of samples, each taken for a Gaussian.

use nalgebra::{DMatrix, DVector, SymmetricEigen};

/// A Gaussian fitted to samples.
#[derive(Clone, Debug)]
pub struct Gaussian {
    mean: DVector<f64>,
    covariance: DMatrix<f64>,
}

impl Gaussian {
    /// Mean and unbiased covariance of samples of equal length. Fewer samples than dimensions are fine: the covariance
    /// is then singular. `None` for fewer than two, which have no covariance.
    pub fn fitted<'a>(samples: impl ExactSizeIterator<Item = &'a [f32]> + Clone) -> Option<Self> {
        let count = samples.len();
        let dimensions = samples.clone().next()?.len();
        let values = samples.flatten().map(|v| f64::from(*v));
        let mut columns = DMatrix::from_iterator(dimensions, count, values);
        let mean = columns.column_mean();
        columns.column_iter_mut().for_each(|mut c| c -= &mean);
        let covariance = &columns * columns.transpose() / (count as f64 - 1.);
        (count > 1).then_some(Self { mean, covariance })
    }

    /// `|m1 - m2|^2 + tr(S1 + S2 - 2 sqrt(S1 S2))` (Dowson & Landau 1982; as in the Frechet Inception Distance).
    ///
    /// S1 S2 and sqrt(S1) S2 sqrt(S1) have the same eigenvalues, and the second is symmetric: the trace of the root is
    /// the sum of their roots, with no matrix that may be close to singular.
    pub fn distance(&self, other: &Self) -> f64 {
        let root = root(&self.covariance);
        let product = &root * &other.covariance * &root;
        let product = (&product + product.transpose()) / 2.;
        let roots: f64 = product
            .symmetric_eigenvalues()
            .iter()
            .map(|v| v.max(0.).sqrt())
            .sum();
        let traces = self.covariance.trace() + other.covariance.trace();
        ((&self.mean - &other.mean).norm_squared() + traces - 2. * roots).max(0.)
    }
}

/// The symmetric root of a covariance.
fn root(covariance: &DMatrix<f64>) -> DMatrix<f64> {
    let SymmetricEigen {
        eigenvectors,
        eigenvalues,
    } = SymmetricEigen::new(covariance.clone());
    let roots = DMatrix::from_diagonal(&eigenvalues.map(|v| v.max(0.).sqrt()));
    &eigenvectors * roots * eigenvectors.transpose()
}
