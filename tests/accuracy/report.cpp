// SPDX-License-Identifier: MIT
#include "report.hpp"

#include <cstdio>
#include <functional>
#include <limits>

namespace accuracy {

namespace {

constexpr std::array<const char*, quantities> kNames{"norm", "y",       "variance",  "run.mean", "run.var",
                                                     "dx",   "dweight", "of a term", "dbias"};

bool is_narrow(const Format& format) { return format.digits < 24; }

/// In ulp. norm, y, dx: of the elements' type; a running statistic is judged as the variance is.
double bound(const Types& types, Quantity quantity) {
  switch (quantity) {
    case norm:
      return is_narrow(types.element) ? 1 : 2;
    case y:
      return is_narrow(types.element) ? 1 : 4;
    case dx:
      return is_narrow(types.element) ? 1 : 8;
    case dweight:
    case dweight_term:
    case dbias:
      return is_narrow(types.parameter) ? 1 : 8;
    default:
      return 4;
  }
}

/// Why up to twice the bound is allowed; null where it is not.
const char* kept(const Types& types, Quantity quantity) {
  if (is_narrow(types.element)) return nullptr;
  if (quantity == norm)
    return "x - mean, rstd and their product are rounded one by one, and an outlier's square before them";
  return nullptr;
}

/// Not held, only shown: the elements of a block are added up in a type no wider than the parameters'. What that rounds
/// grows with the root of their number, as the sum does, unless its terms happen to cancel.
bool is_goal(const Types& types, Quantity quantity) { return quantity == dweight_term && !is_narrow(types.parameter); }

double allowed(const Types& types, Quantity quantity) {
  if (is_goal(types, quantity)) return std::numeric_limits<double>::infinity();
  return (kept(types, quantity) != nullptr ? 2 : 1) * bound(types, quantity);
}

Quantity quantity(std::size_t q) { return static_cast<Quantity>(q); }

/// With a ~ beyond the bound, and a ! beyond what is allowed.
std::string text_of(const Types& types, Quantity quantity, double error) {
  if (std::isnan(error)) return "-  ";
  const char* mark = error > allowed(types, quantity) ? " !" : error > bound(types, quantity) ? " ~" : "  ";
  char text[32];
  std::snprintf(text, sizeof text, error < 1e4 ? "%.2f%s" : "%.1e%s", error, mark);
  return text;
}

/// Takes over the larger errors of each quantity.
void include(std::array<double, quantities>& worst, const std::array<double, quantities>& errors) {
  for (std::size_t q = 0; q < quantities; ++q)
    if (!(errors[q] <= worst[q]) && !std::isnan(errors[q])) worst[q] = errors[q];
}

struct Row {
  std::string name;
  std::array<double, quantities> worst;
};

/// The worst errors of the cases of one name, in the order of their first ones.
std::vector<Row> rows_by(const std::vector<const Measured*>& cases,
                         const std::function<std::string(const Measured&)>& name_of) {
  std::vector<Row> rows;
  for (const Measured* measured : cases) {
    const std::string name = name_of(*measured);
    auto row = std::find_if(rows.begin(), rows.end(), [&](const Row& r) { return r.name == name; });
    if (row == rows.end())
      row = rows.insert(rows.end(), {name, measured->errors});
    else
      include(row->worst, measured->errors);
  }
  return rows;
}

void print_table(const Types& types, const char* title, const std::vector<Row>& rows) {
  constexpr int name_width = 62, width = 11;
  std::printf("\n%-*s", name_width, (types.name + ", " + title).c_str());
  for (const char* name : kNames) std::printf("%*s  ", width - 2, name);
  std::printf("\n%-*s", name_width, "bound");
  for (std::size_t q = 0; q < quantities; ++q) std::printf("%*.2f  ", width - 2, bound(types, quantity(q)));
  std::printf("\n");
  for (const Row& row : rows) {
    std::printf("%-*s", name_width, row.name.c_str());
    for (std::size_t q = 0; q < quantities; ++q)
      std::printf("%*s", width, text_of(types, quantity(q), row.worst[q]).c_str());
    std::printf("\n");
  }
}

void print_goal(const std::vector<const Measured*>& cases) {
  const Types& types = cases.front()->types;
  const auto beyond = [&](double ulp) {
    return std::count_if(cases.begin(), cases.end(), [&](const Measured* m) { return m->errors[dweight_term] > ulp; });
  };
  const double goal = bound(types, dweight_term);
  std::printf("  %s: beyond it %td of %zu cases, beyond twice as much %td\n", types.name.c_str(), beyond(goal),
              cases.size(), beyond(2 * goal));
}

/// The cases of each type, in the order of the first ones.
std::vector<std::vector<const Measured*>> by_type(const std::vector<Measured>& all) {
  std::vector<std::vector<const Measured*>> result;
  for (const Measured& measured : all) {
    auto of_type = std::find_if(result.begin(), result.end(),
                                [&](const auto& cases) { return cases.front()->types.name == measured.types.name; });
    if (of_type == result.end()) of_type = result.insert(result.end(), std::vector<const Measured*>());
    of_type->push_back(&measured);
  }
  return result;
}

}  // namespace

void Report::add(Measured measured) { all_.push_back(std::move(measured)); }

void Report::print(bool every_case) const {
  for (const auto& cases : by_type(all_)) {
    const Types& types = cases.front()->types;
    print_table(types, "worst of all data", rows_by(cases, [](const Measured& m) { return m.layer; }));
    print_table(types, "worst of all layers", rows_by(cases, [](const Measured& m) { return m.data; }));
    if (every_case)
      print_table(types, "each case", rows_by(cases, [](const Measured& m) { return m.layer + ", " + m.data; }));
  }
}

void Report::print_summary() const {
  std::printf("\n%-28s%-10s%10s%8s    %s\n", "worst of each type", "", "ulp", "bound", "where");
  for (const auto& cases : by_type(all_)) {
    for (std::size_t q = 0; q < quantities; ++q) {
      const Measured* worst = nullptr;
      for (const Measured* measured : cases)
        if (!std::isnan(measured->errors[q]) && (worst == nullptr || measured->errors[q] > worst->errors[q]))
          worst = measured;
      if (worst == nullptr) continue;
      const Types& types = worst->types;
      std::printf("%-28s%-10s%10s%8.2f    %s, %s\n", types.name.c_str(), kNames[q],
                  text_of(types, quantity(q), worst->errors[q]).c_str(), bound(types, quantity(q)),
                  worst->layer.c_str(), worst->data.c_str());
    }
  }
  std::printf("\n~ up to twice the bound is kept for speed:\n");
  for (const auto& cases : by_type(all_))
    for (std::size_t q = 0; q < quantities; ++q)
      if (const char* why = kept(cases.front()->types, quantity(q)))
        std::printf("  %s %s: %s\n", cases.front()->types.name.c_str(), kNames[q], why);
  std::printf(
      "\nof a term: the error of dweight in ulp of its largest term; %.0f are aimed at, not held where terms cancel\n",
      bound(all_.front().types, dweight_term));
  for (const auto& cases : by_type(all_))
    if (is_goal(cases.front()->types, dweight_term)) print_goal(cases);
  std::printf(
      "\n- nothing to judge: no such result, dx beyond the largest number, or dweight where 1 / deviation is\n");
  double without_rstd = 0;
  for (const Measured& measured : all_) without_rstd = std::fmax(without_rstd, measured.dweight_without_rstd);
  if (without_rstd > 0)
    std::printf("  (known limit: statistics kept for backward cannot hold it; error of dweight there up to %.1e ulp)\n",
                without_rstd);
}

int Report::broken() const {
  int result = 0;
  for (const Measured& measured : all_)
    for (std::size_t q = 0; q < quantities; ++q)
      result += measured.errors[q] > allowed(measured.types, quantity(q)) ? 1 : 0;
  return result;
}

}  // namespace accuracy
