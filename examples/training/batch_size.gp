# SPDX-License-Identifier: MIT
# gnuplot -c batch_size.gp batch_size.csv batch_size.svg
csv = ARG1
output = ARG2
picture_width = 700
picture_height = 450
load system("dirname '".ARG0."'")."/style.gp"

set title "UCI digits: held-out error over the batch size" font ",15"
set xlabel "batch size (log scale)"
set ylabel "error in %, mean and deviation over the seeds"
set logscale x 2
set xrange [48:1.4]  # large to small, as in Wu & He's figure
set xtics (32, 16, 8, 4, 2)
set yrange [0:*]
set key top right horizontal
set offsets 0, 0, 0.5, 0
set errorbars small
left = 1.03  # the two series stand side by side
plot csv using (column("batch size") * left):"BatchNorm error" with lines ls 2, \
     csv using (column("batch size") * left):"BatchNorm error":"BatchNorm deviation" with yerrorbars ls 2 title "BatchNorm", \
     csv using (column("batch size") / left):"GroupNorm error" with lines ls 3, \
     csv using (column("batch size") / left):"GroupNorm error":"GroupNorm deviation" with yerrorbars ls 3 title "GroupNorm"
