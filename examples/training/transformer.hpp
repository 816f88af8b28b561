// SPDX-License-Identifier: MIT
// A small pre-norm transformer for next-character prediction, in plain Eigen. The norms come as a template argument.
//
// A batch is a list of sentences of different lengths. Their tokens are the rows of one matrix, sentence after
// sentence, without padding; only attention knows where a sentence begins.
#pragma once

#include "parameters.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <limits>
#include <utility>
#include <vector>

namespace examples {

/// Seconds of CPU time, by kind of work. (Not of the clock on the wall: other programs on the machine would count.)
struct Timing {
  double products = 0, norms = 0, all = 0;
};

/// Adds the time until its end of life to a place.
class Stopwatch {
 public:
  explicit Stopwatch(double& seconds) : seconds_(seconds) {}
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch() { seconds_ += static_cast<double>(std::clock() - started_) / CLOCKS_PER_SEC; }

 private:
  double& seconds_;
  std::clock_t started_ = std::clock();
};

struct TransformerShape {
  Eigen::Index characters = 0, width = 128, heads = 4, blocks = 2, longest = 128;
};

/// y = product, timed as such. y may be a block of a matrix.
template <class Y, class Product>
void timed_product(Y&& y, const Product& product, Timing& timing) {
  const Stopwatch watch(timing.products);
  y.noalias() = product;
}

/// y = x * weight.
template <class Scalar>
class Linear {
 public:
  Linear(Eigen::Index inputs, Eigen::Index outputs, Normal& normal)
      : weight_{normal.matrix<Scalar>(inputs, outputs, 1 / std::sqrt(static_cast<double>(inputs))),
                Matrix<Scalar>::Zero(inputs, outputs)} {}

  void forward(const Matrix<Scalar>& x, Matrix<Scalar>& y, Timing& timing) const {
    timed_product(y, x * weight_.value, timing);
  }

  void backward(const Matrix<Scalar>& dy, const Matrix<Scalar>& x, Matrix<Scalar>& dx, Timing& timing) {
    const Stopwatch watch(timing.products);
    weight_.gradient.noalias() += x.transpose() * dy;
    dx.noalias() = dy * weight_.value.transpose();
  }

  void collect(std::vector<ParameterView<Scalar>>& all) { all.push_back(view(weight_)); }

 private:
  Parameter<Scalar> weight_;
};

/// Causal self-attention of each sentence with itself.
template <class Scalar>
class Attention {
 public:
  Attention(const TransformerShape& shape, Normal& normal)
      : heads_(shape.heads), in_(shape.width, 3 * shape.width, normal), out_(shape.width, shape.width, normal) {}

  /// starts: the first row of each sentence, and the number of rows.
  void forward(const Matrix<Scalar>& x, const std::vector<Eigen::Index>& starts, Matrix<Scalar>& y, Timing& timing) {
    in_.forward(x, query_key_value_, timing);
    mixed_.resize(x.rows(), x.cols());
    probabilities_.resize((starts.size() - 1) * static_cast<std::size_t>(heads_));
    const Eigen::Index size = x.cols() / heads_;
    for (std::size_t i = 0; i < probabilities_.size(); ++i) {
      const Part part = part_of(i, starts, x.cols());
      Matrix<Scalar>& scores = probabilities_[i];
      timed_product(scores, part.query(query_key_value_) * part.key(query_key_value_).transpose(), timing);
      causal_softmax(scores, 1 / std::sqrt(static_cast<Scalar>(size)));
      timed_product(part.query(mixed_), scores * part.value(query_key_value_), timing);
    }
    out_.forward(mixed_, y, timing);
  }

  void backward(const Matrix<Scalar>& dy, const Matrix<Scalar>& x, const std::vector<Eigen::Index>& starts,
                Matrix<Scalar>& dx, Timing& timing) {
    out_.backward(dy, mixed_, dmixed_, timing);
    dquery_key_value_.resize(x.rows(), 3 * x.cols());
    const Scalar scale = 1 / std::sqrt(static_cast<Scalar>(x.cols() / heads_));
    for (std::size_t i = 0; i < probabilities_.size(); ++i) {
      const Part part = part_of(i, starts, x.cols());
      const Matrix<Scalar>& p = probabilities_[i];
      timed_product(part.value(dquery_key_value_), p.transpose() * part.query(dmixed_), timing);
      timed_product(dscores_, part.query(dmixed_) * part.value(query_key_value_).transpose(), timing);
      const Eigen::Array<Scalar, Eigen::Dynamic, 1> means = (dscores_.array() * p.array()).rowwise().sum();
      dscores_.array() = (dscores_.array().colwise() - means) * p.array() * scale;
      timed_product(part.query(dquery_key_value_), dscores_ * part.key(query_key_value_), timing);
      timed_product(part.key(dquery_key_value_), dscores_.transpose() * part.query(query_key_value_), timing);
    }
    in_.backward(dquery_key_value_, x, dx, timing);
  }

  void collect(std::vector<ParameterView<Scalar>>& all) {
    in_.collect(all);
    out_.collect(all);
  }

 private:
  /// The rows of one sentence and the columns of one head.
  struct Part {
    Eigen::Index row, rows, column, columns, width;

    template <class M>
    auto query(M& m) const {
      return m.block(row, column, rows, columns);
    }
    template <class M>
    auto key(M& m) const {
      return m.block(row, width + column, rows, columns);
    }
    template <class M>
    auto value(M& m) const {
      return m.block(row, 2 * width + column, rows, columns);
    }
  };

  Part part_of(std::size_t i, const std::vector<Eigen::Index>& starts, Eigen::Index width) const {
    const std::size_t sentence = i / static_cast<std::size_t>(heads_);
    const Eigen::Index head = static_cast<Eigen::Index>(i) % heads_, size = width / heads_;
    return {starts[sentence], starts[sentence + 1] - starts[sentence], head * size, size, width};
  }

  /// Row i: softmax(scale * scores) over the columns 0..i, 0 beyond.
  static void causal_softmax(Matrix<Scalar>& scores, Scalar scale) {
    for (Eigen::Index i = 0; i < scores.rows(); ++i) {
      auto seen = scores.row(i).head(i + 1);
      const Scalar largest = seen.maxCoeff();
      seen = ((seen.array() - largest) * scale).exp();
      seen /= seen.sum();
      scores.row(i).tail(scores.cols() - i - 1).setZero();
    }
  }

  Eigen::Index heads_;
  Linear<Scalar> in_, out_;
  Matrix<Scalar> query_key_value_, mixed_, dquery_key_value_, dmixed_, dscores_;
  std::vector<Matrix<Scalar>> probabilities_;
};

/// x += attention(norm(x)); x += relu(norm(x) * up) * down.
template <class Scalar, template <class> class Norm>
class TransformerBlock {
 public:
  TransformerBlock(const TransformerShape& shape, Normal& normal)
      : first_norm_(shape.width),
        second_norm_(shape.width),
        attention_(shape, normal),
        up_(shape.width, 4 * shape.width, normal),
        down_(4 * shape.width, shape.width, normal) {}

  void forward(Matrix<Scalar>& x, const std::vector<Eigen::Index>& starts, Timing& timing) {
    x_ = x;
    timed_norm(first_norm_, x_, norm_of_x_, timing);
    attention_.forward(norm_of_x_, starts, branch_, timing);
    middle_ = x_ + branch_;
    timed_norm(second_norm_, middle_, norm_of_middle_, timing);
    up_.forward(norm_of_middle_, hidden_, timing);
    hidden_ = hidden_.cwiseMax(Scalar(0));
    down_.forward(hidden_, branch_, timing);
    x = middle_ + branch_;
  }

  /// dx: the gradient by the block's output on entry, by its input on return.
  void backward(Matrix<Scalar>& dx, const std::vector<Eigen::Index>& starts, Timing& timing) {
    down_.backward(dx, hidden_, dhidden_, timing);
    dhidden_.array() *= (hidden_.array() > Scalar(0)).template cast<Scalar>();
    up_.backward(dhidden_, norm_of_middle_, dnorm_, timing);
    timed_norm_backward(second_norm_, dnorm_, middle_, branch_, timing);
    dx += branch_;
    attention_.backward(dx, norm_of_x_, starts, dnorm_, timing);
    timed_norm_backward(first_norm_, dnorm_, x_, branch_, timing);
    dx += branch_;
  }

  void collect(std::vector<ParameterView<Scalar>>& all) {
    first_norm_.collect(all);
    attention_.collect(all);
    second_norm_.collect(all);
    up_.collect(all);
    down_.collect(all);
  }

  static void timed_norm(Norm<Scalar>& norm, const Matrix<Scalar>& x, Matrix<Scalar>& y, Timing& timing) {
    const Stopwatch watch(timing.norms);
    norm.forward(x, y);
  }

  static void timed_norm_backward(Norm<Scalar>& norm, const Matrix<Scalar>& dy, const Matrix<Scalar>& x,
                                  Matrix<Scalar>& dx, Timing& timing) {
    const Stopwatch watch(timing.norms);
    norm.backward(dy, x, dx);
  }

 private:
  Norm<Scalar> first_norm_, second_norm_;
  Attention<Scalar> attention_;
  Linear<Scalar> up_, down_;
  Matrix<Scalar> x_, norm_of_x_, middle_, norm_of_middle_, hidden_, branch_, dhidden_, dnorm_;
};

template <class Scalar, template <class> class Norm>
class Transformer {
 public:
  Transformer(const TransformerShape& shape, std::uint32_t seed) : Transformer(shape, Normal(seed)) {}

  /// The mean of -log p(next character) over a batch of sentences; gradients are added to the parameters'.
  Scalar loss_and_gradients(const std::vector<const std::vector<int>*>& sentences, Timing& timing) {
    const Stopwatch watch(timing.all);
    read(sentences);
    embed();
    for (auto& block : blocks_) block.forward(x_, starts_, timing);
    TransformerBlock<Scalar, Norm>::timed_norm(last_norm_, x_, norm_of_x_, timing);
    to_logits_.forward(norm_of_x_, logits_, timing);
    const Scalar loss = softmax_loss();
    to_logits_.backward(logits_, norm_of_x_, dnorm_, timing);
    TransformerBlock<Scalar, Norm>::timed_norm_backward(last_norm_, dnorm_, x_, dx_, timing);
    for (std::size_t b = blocks_.size(); b-- > 0;) blocks_[b].backward(dx_, starts_, timing);
    embed_backward();
    return loss;
  }

  std::vector<ParameterView<Scalar>> parameters() {
    std::vector<ParameterView<Scalar>> all = {view(characters_), view(positions_)};
    for (auto& block : blocks_) block.collect(all);
    last_norm_.collect(all);
    to_logits_.collect(all);
    return all;
  }

  Eigen::Index tokens() const { return static_cast<Eigen::Index>(inputs_.size()); }

 private:
  Transformer(const TransformerShape& shape, Normal normal)
      : characters_{normal.matrix<Scalar>(shape.characters, shape.width, 1),
                    Matrix<Scalar>::Zero(shape.characters, shape.width)},
        positions_{normal.matrix<Scalar>(shape.longest, shape.width, 1),
                   Matrix<Scalar>::Zero(shape.longest, shape.width)},
        last_norm_(shape.width),
        to_logits_(shape.width, shape.characters, normal) {
    for (Eigen::Index b = 0; b < shape.blocks; ++b) blocks_.emplace_back(shape, normal);
  }

  /// A sentence of n + 1 characters gives n rows: each is to predict the character after it.
  void read(const std::vector<const std::vector<int>*>& sentences) {
    inputs_.clear();
    targets_.clear();
    starts_ = {0};
    for (const std::vector<int>* sentence : sentences) {
      inputs_.insert(inputs_.end(), sentence->begin(), sentence->end() - 1);
      targets_.insert(targets_.end(), sentence->begin() + 1, sentence->end());
      starts_.push_back(tokens());
    }
  }

  template <class Visit>
  void for_each_token(const Visit& visit) const {
    for (std::size_t sentence = 0; sentence + 1 < starts_.size(); ++sentence)
      for (Eigen::Index row = starts_[sentence]; row < starts_[sentence + 1]; ++row)
        visit(row, inputs_[static_cast<std::size_t>(row)], row - starts_[sentence]);
  }

  void embed() {
    x_.resize(tokens(), characters_.value.cols());
    for_each_token([this](Eigen::Index row, int character, Eigen::Index position) {
      x_.row(row) = characters_.value.row(character) + positions_.value.row(position);
    });
  }

  void embed_backward() {
    for_each_token([this](Eigen::Index row, int character, Eigen::Index position) {
      characters_.gradient.row(character) += dx_.row(row);
      positions_.gradient.row(position) += dx_.row(row);
    });
  }

  /// The loss; logits_ becomes its gradient.
  Scalar softmax_loss() {
    Scalar loss = 0;
    const Scalar share = 1 / static_cast<Scalar>(tokens());
    for (Eigen::Index row = 0; row < logits_.rows(); ++row) {
      const Scalar largest = logits_.row(row).maxCoeff();
      logits_.row(row) = (logits_.row(row).array() - largest).exp();
      logits_.row(row) /= logits_.row(row).sum();
      Scalar& right = logits_(row, targets_[static_cast<std::size_t>(row)]);
      loss -= std::log(right) * share;
      right -= 1;
    }
    logits_ *= share;
    return loss;
  }

  Parameter<Scalar> characters_, positions_;
  std::vector<TransformerBlock<Scalar, Norm>> blocks_;
  Norm<Scalar> last_norm_;
  Linear<Scalar> to_logits_;
  std::vector<int> inputs_, targets_;
  std::vector<Eigen::Index> starts_;
  Matrix<Scalar> x_, norm_of_x_, logits_, dnorm_, dx_;
};

}  // namespace examples
