# SPDX-License-Identifier: MIT
# gnuplot -c train_digits.gp train_digits.csv train_digits.svg
csv = ARG1
output = ARG2
picture_width = 900
picture_height = 640
load system("dirname '".ARG0."'")."/style.gp"

kinds = "none BatchNorm LayerNorm GroupNorm"
rates = "low high"
set multiplot layout 2,2 title "UCI digits: training with four normalizations" font ",15"
set xlabel "epoch"
do for [r = 1:2] {
  rate = word(rates, r)
  set title "training loss, ".rate." learning rate"
  set yrange [0:3.5]
  if (r == 1) { set key top right } else { unset key }
  plot for [k = 1:4] csv using "epoch":word(kinds, k)." ".rate." loss" with linespoints ls k title word(kinds, k)
}
unset key
do for [r = 1:2] {
  rate = word(rates, r)
  set title "held-out error in %, ".rate." learning rate"
  set yrange [0:100]
  plot for [k = 1:4] csv using "epoch":(100 * column(word(kinds, k)." ".rate." error")) with linespoints ls k
}
unset multiplot
