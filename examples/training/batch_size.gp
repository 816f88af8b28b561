# SPDX-License-Identifier: MIT
# gnuplot -c batch_size.gp batch_size.csv batch_size.svg
csv = ARG1
output = ARG2
picture_width = 700
picture_height = 450
load system("dirname '".ARG0."'")."/style.gp"

set title "UCI digits: held-out error over the batch size" font ",15" offset 0,1
set xlabel "batch size (log scale)"
set ylabel "error in %, mean and deviation over the seeds"
set logscale x 2
set xrange [48:1.4]  # large to small, as in Wu & He's figure
set xtics (32, 16, 8, 4, 2)
set yrange [0:*]
set key outside top center horizontal
set errorbars small
plot csv using "batch size":"BatchNorm error" with lines ls 2, \
     csv using "batch size":"BatchNorm error":"BatchNorm deviation" with yerrorbars ls 2 title "BatchNorm", \
     csv using "batch size":"GroupNorm error" with lines ls 3, \
     csv using "batch size":"GroupNorm error":"GroupNorm deviation" with yerrorbars ls 3 title "GroupNorm"
