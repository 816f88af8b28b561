# SPDX-License-Identifier: MIT
# gnuplot -c transformer_block.gp transformer_block.csv transformer_block.svg
csv = ARG1
output = ARG2
picture_width = 700
picture_height = 600
load system("dirname '".ARG0."'")."/style.gp"

set multiplot layout 2,1 title "Next-character prediction on Newton's Opticks" font ",15"
set xlabel "step"
set ylabel "loss"
set key top right
plot csv using "step":"by hand" with lines lc "#bbbbbb" lw 6 title "norms by hand", \
     csv using "step":"tensornorm" with lines ls 2 title "tensornorm"
unset key
set ylabel "relative difference (0 as 10^{-9})"
set logscale y
set format y "10^{%L}"
plot csv using "step":(abs(column("tensornorm") / column("by hand") - 1) + 1e-9) with points ls 3
unset multiplot
