# SPDX-License-Identifier: MIT
# gnuplot -c bars.gp bars.csv bars.svg "<colours of the contenders>"
# Columns: panel, case, a contender each. A panel is drawn for each name in the first column.
csv = ARG1
output = ARG2
colours = ARG3
panels = system("tail -n +2 '".csv."' | cut -d, -f1 | uniq")
count = words(panels) > 0 ? words(panels) : 1
cases = int(system("tail -n +2 '".csv."' | cut -d, -f1 | uniq -c | sort -rn | head -n 1 | awk '{ print $1 }'"))
contenders = int(system("head -n 1 '".csv."' | tr -cd , | wc -c")) - 1
picture_width = 200 + cases * (contenders + 2) * (cases > 4 ? 6 : 28)
picture_height = count * (cases > 4 ? 460 : 400)
load system("dirname '".ARG0."'")."/../examples/training/style.gp"

set style data histogram
set style histogram clustered gap 2
set style fill solid noborder
set boxwidth 1
set xrange [-0.7:cases - 0.3]
set ylabel "speed, memcpy = 1"
set yrange [0:*]
set key top center horizontal outside
if (cases > 4) { set xtics rotate by -40 left font ",10"; set bmargin 12; set rmargin 20 }
set multiplot layout count, 1
do for [panel = 1:count] {
  name = words(panels) > 0 ? word(panels, panel) : ""
  rows = words(panels) > 0 ? "< awk -F, 'NR == 1 || $1 == \"".name."\"' '".csv."'" : csv
  set title name font ",15"
  if (panel > 1) { unset key }
  plot for [i = 1:contenders] rows using (column(i + 2)):xtic(2) lc rgb word(colours, i) title columnheader(i + 2), \
       1 with lines lc "black" title panel == 1 ? "memcpy" : ""
}
unset multiplot
