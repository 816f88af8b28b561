// SPDX-License-Identifier: MIT
// A whole program: a network with one hidden layer and BatchNorm learns which points lie within a circle, and is then used.
//   g++ -std=c++20 -O2 -I include -I /usr/include/eigen3 examples/minimal.cpp -o minimal
#include <tensornorm/tensornorm.hpp>

#include <cstdio>
#include <cstdlib>

namespace tn = tensornorm;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;  // a sample is a row

struct Network {
  Matrix in = Matrix::Random(2, 32), out = Matrix::Random(32, 1);
  tn::BatchNorm1d<float> norm{32};
};

Matrix sigmoid(const Matrix& x) { return (1.0f + (-x.array()).exp()).inverse(); }

/// One step of gradient descent; returns the mean cross-entropy before it.
float train(Network& net, const Matrix& x, const Matrix& target, float rate) {
  const Matrix hidden = x * net.in;
  Matrix normed(hidden.rows(), hidden.cols());
  tn::SavedStats<float> saved;
  net.norm.forward(hidden, normed, saved);  // the batch's statistics; the running ones move towards them
  const Matrix active = normed.cwiseMax(0.0f);
  const Matrix guess = sigmoid(active * net.out);

  const Matrix dscore = (guess - target) / float(x.rows());
  Matrix dhidden = (normed.array() > 0).select(dscore * net.out.transpose(), 0.0f);
  auto grads = net.norm.zero_gradients();
  net.norm.backward(dhidden, hidden, saved, dhidden, grads);  // in place; grads.weight and grads.bias are added to

  net.out -= rate * active.transpose() * dscore;
  net.in -= rate * x.transpose() * dhidden;
  net.norm.weight() -= grads.weight * rate;
  net.norm.bias() -= grads.bias * rate;
  return -(target.array() * guess.array().log() + (1.0f - target.array()) * (1.0f - guess.array()).log()).mean();
}

/// The chance that each point lies within the circle. const: running statistics, from as many threads as you like.
Matrix infer(const Network& net, const Matrix& x) {
  Matrix hidden = x * net.in;
  net.norm.infer(hidden, hidden);
  return sigmoid(hidden.cwiseMax(0.0f) * net.out);
}

Matrix within_circle(const Matrix& x) { return (x.rowwise().norm().array() < 0.75f).cast<float>(); }

int main() {
  std::srand(1);  // of Eigen's Random()
  Network net;
  for (int step = 0; step <= 1000; ++step) {
    const Matrix x = Matrix::Random(256, 2);
    const float loss = train(net, x, within_circle(x), 0.5f);
    if (step % 200 == 0) std::printf("step %4d   loss %.3f\n", step, loss);
  }
  const Matrix unseen = Matrix::Random(10000, 2);
  const Matrix right = ((infer(net, unseen).array() > 0.5f) == (within_circle(unseen).array() > 0.5f)).cast<float>();
  std::printf("%.1f %% of 10000 unseen points classified correctly; probability that the centre is inside: %.3f\n", 100.0f * right.mean(),
              infer(net, Matrix::Zero(1, 2))(0, 0));
  return right.mean() > 0.95f ? EXIT_SUCCESS : EXIT_FAILURE;
}
