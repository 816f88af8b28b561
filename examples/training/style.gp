# SPDX-License-Identifier: MIT
# Shared by the pictures: reads comma-separated columns by name, writes SVG or PNG by the output's ending.
set datafile separator comma
set datafile columnheaders
if (output[strlen(output)-3:] eq ".png") {
  set terminal pngcairo size picture_width, picture_height font "sans,10" background "white"
} else {
  set terminal svg size picture_width, picture_height font "sans,12" background "white"
}
set output output
set border 3 lc "#888888"
set tics nomirror tc "black"
set grid ytics lc "#dddddd" lt 1
set key noautotitle
set style line 1 lc "#888888" lw 2 pt 7 ps 0.6
set style line 2 lc "#d1495b" lw 2 pt 7 ps 0.6
set style line 3 lc "#2e86ab" lw 2 pt 7 ps 0.6
set style line 4 lc "#3a7d44" lw 2 pt 7 ps 0.6
